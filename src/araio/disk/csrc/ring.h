// `Ring`: io_uring(7) by its system calls alone, as far as reads need it. For one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#if __has_include(<linux/io_uring.h>)
#include <linux/io_uring.h>
#endif

// The headers of a system before Linux 5.6 do not know plain reads; there is no ring then.
#ifdef IORING_FEAT_RW_CUR_POS
#define ARAIO_HAS_RING

namespace araio::disk {

class Ring {
  public:
    // Room for so many reads. Throws std::system_error where the kernel has no ring for us.
    explicit Ring(unsigned entries);
    ~Ring();
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    // Notes a read, which `enter` hands over; there is room for it.
    void read(int descriptor, void* memory, uint32_t size, uint64_t offset, uint64_t name);

    // Hands over what was noted and waits until at least one read is over.
    void enter();

    // The name and the result of a read that is over: bytes, or an errno below zero. False where there is
    // none.
    bool pop(uint64_t& name, int64_t& result);

  private:
    struct Shared {  // with the kernel
        unsigned* head;
        unsigned* tail;
        unsigned mask;
    };

    void* map(size_t size, int64_t what);

    int descriptor_ = -1;
    unsigned noted_ = 0;
    Shared asked_ = {};
    Shared answered_ = {};
    unsigned* order_ = nullptr;
    io_uring_sqe* requests_ = nullptr;
    io_uring_cqe* answers_ = nullptr;
    size_t rings_bytes_ = 0;
    size_t requests_bytes_ = 0;
    void* rings_ = nullptr;
};

}  // namespace araio::disk

#endif
