// A program that breaks what `ThreadPool` stands on: items throw, and the system starts no more threads.
// test_native_threads.py compiles it together with thread_pool.cpp; it ends with 0 if the pool survives.

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "thread_pool.h"

namespace {

std::atomic<int> allowed{1 << 20};  // threads that may still be started

using Start = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

void expect(bool holds, const char* what) {
    if (holds) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::exit(1);
}

// Every item once, from a pool of which something may have gone wrong before.
void expect_all_items_once(araio::ThreadPool& pool) {
    std::atomic<int> turns[100] = {};
    pool.run(100, 1, [&](int64_t i) { ++turns[i]; });
    for (const auto& turn : turns) expect(turn == 1, "every item has one turn");
}

// One item throws, or all do, whoever has them; none is in work any more when the caller hears of it.
void items_that_throw(araio::ThreadPool& pool, int64_t thrower) {
    std::atomic<int> inside{0};
    bool is_caught = false;
    try {
        pool.run(64, 1, [&](int64_t i) {
            ++inside;
            for (volatile int spin = 0; spin < 500;) spin = spin + 1;
            --inside;
            if (thrower < 0 || i == thrower) throw std::runtime_error("item");
        });
    } catch (const std::runtime_error& error) {
        is_caught = error.what() == std::string("item");
    }
    expect(is_caught, "the caller gets the exception");
    expect(inside == 0, "nobody works on a job whose caller went on");
}

}  // namespace

// Stands in for the C library's, which std::thread calls.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* object) {
    if (allowed-- <= 0) return EAGAIN;
    static const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "pthread_create"));
    return start(thread, attributes, run, object);
}

int main() {
    araio::ThreadPool& pool = araio::ThreadPool::shared();
    pool.set_threads(4, 0);
    for (int64_t round = 0; round < 300; ++round) {
        items_that_throw(pool, round % 64);
        items_that_throw(pool, -1);
        expect_all_items_once(pool);
    }
    for (const int workers : {2, 0}) {
        allowed = workers;
        pool.set_threads(8, 0);
        expect_all_items_once(pool);
        expect(pool.threads() == workers + 1, "threads() counts those that could be started");
    }
    return 0;
}
