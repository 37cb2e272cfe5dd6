// Working memory of an operation: kept by its thread from call to call, for memory that is given back and
// asked for again arrives with a page fault for every 4 KiB.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace araio {

// One buffer that grows and is never shared between threads. Each purpose has its own object.
template <typename Number>
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    ~Scratch() { release(); }

    // At least `count` numbers, 64-byte aligned, with whatever was there before.
    Number* take(int64_t count) {
        if (count > capacity_) {
            release();
            capacity_ = 0;
            const auto bytes = static_cast<std::size_t>(count) * sizeof(Number);
            data_ = static_cast<Number*>(::operator new(bytes, std::align_val_t{64}));
            capacity_ = count;
        }
        return data_;
    }

  private:
    void release() {
        ::operator delete(data_, std::align_val_t{64});
        data_ = nullptr;
    }

    Number* data_ = nullptr;
    int64_t capacity_ = 0;
};

}  // namespace araio
