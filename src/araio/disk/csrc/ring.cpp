#include "ring.h"

#ifdef ARAIO_HAS_RING

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace araio::disk {
namespace {

// Both came with Linux 5.6 or before it: one mapping for both rings, and plain reads.
constexpr uint32_t kNeeded = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_RW_CUR_POS;

[[noreturn]] void fail(int error) { throw std::system_error(error, std::generic_category(), "io_uring"); }

}  // namespace

Ring::Ring(unsigned entries) {
    io_uring_params params = {};
    descriptor_ = static_cast<int>(syscall(__NR_io_uring_setup, entries, &params));
    if (descriptor_ < 0) fail(errno);
    if ((params.features & kNeeded) != kNeeded) {
        close(descriptor_);
        fail(ENOSYS);
    }
    rings_bytes_ = std::max(params.sq_off.array + params.sq_entries * sizeof(unsigned),
                            params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
    requests_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
    rings_ = map(rings_bytes_, IORING_OFF_SQ_RING);
    requests_ = static_cast<io_uring_sqe*>(map(requests_bytes_, IORING_OFF_SQES));

    char* base = static_cast<char*>(rings_);
    const auto word = [base](uint32_t at) { return reinterpret_cast<unsigned*>(base + at); };
    asked_ = {word(params.sq_off.head), word(params.sq_off.tail), *word(params.sq_off.ring_mask)};
    answered_ = {word(params.cq_off.head), word(params.cq_off.tail), *word(params.cq_off.ring_mask)};
    order_ = word(params.sq_off.array);
    answers_ = reinterpret_cast<io_uring_cqe*>(base + params.cq_off.cqes);
}

Ring::~Ring() {
    munmap(requests_, requests_bytes_);
    munmap(rings_, rings_bytes_);
    close(descriptor_);
}

void* Ring::map(size_t size, int64_t what) {
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, descriptor_, what);
    if (memory == MAP_FAILED) {
        const int error = errno;
        if (rings_ != nullptr) munmap(rings_, rings_bytes_);
        close(descriptor_);
        fail(error);
    }
    return memory;
}

void Ring::read(int descriptor, void* memory, uint32_t size, uint64_t offset, uint64_t name) {
    const unsigned tail = *asked_.tail;  // nobody but us moves it
    io_uring_sqe& request = requests_[tail & asked_.mask];
    request = {};
    request.opcode = IORING_OP_READ;
    request.fd = descriptor;
    request.addr = reinterpret_cast<uintptr_t>(memory);
    request.len = size;
    request.off = offset;
    request.user_data = name;
    order_[tail & asked_.mask] = tail & asked_.mask;
    __atomic_store_n(asked_.tail, tail + 1, __ATOMIC_RELEASE);
    ++noted_;
}

void Ring::enter() {
    const long taken =
        syscall(__NR_io_uring_enter, descriptor_, noted_, 1, IORING_ENTER_GETEVENTS, nullptr, 0);
    // Interrupted, or short of memory for the moment: what was not taken is handed over the next time.
    if (taken > 0) noted_ -= static_cast<unsigned>(taken);
}

bool Ring::pop(uint64_t& name, int64_t& result) {
    const unsigned head = *answered_.head;  // nobody but us moves it
    if (head == __atomic_load_n(answered_.tail, __ATOMIC_ACQUIRE)) return false;
    const io_uring_cqe& answer = answers_[head & answered_.mask];
    name = answer.user_data;
    result = answer.res;
    __atomic_store_n(answered_.head, head + 1, __ATOMIC_RELEASE);
    return true;
}

}  // namespace araio::disk

#endif
