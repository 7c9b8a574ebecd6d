// The functions of compiler/kernels/cuda/warp.cuh for a CPU, so that the kernels themselves run there, line by line.
//
// A thread of the GPU is a coroutine. A warp runs until each of its lanes waits, for the others of the warp or for the
// block; which warp runs next, and whether an asynchronous copy arrives at once or as late as it may, is drawn from a
// seed. Shared memory begins as noise. What a GPU would punish in silence is an error here: copies and matrices that
// are not aligned or leave their memory, lanes that part before a collective instruction, conflicts of banks.
#pragma once
#define FROSTLINE_WARP
#define __device__

#include <csetjmp>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

namespace emulated {

enum class Waits { NO, FOR_BLOCK, FOR_MATRICES, FOR_SUMS, FOR_WORDS, FOR_EVER };

struct Index {
    unsigned x = 0, y = 0;
};

struct Copy {
    void* to;
    const void* from;
    int bytes;
    bool present;
};

// One thread: where it stands, and what it brought to the instruction at which it waits.
struct Lane {
    std::vector<char> stack = std::vector<char>(1 << 16);
    ucontext_t start{};
    jmp_buf state;
    bool started = false;
    Waits waits = Waits::NO;
    std::vector<std::vector<Copy>> copies;
    unsigned* words = nullptr;    // of load_matrices and of the exchanges: in and out
    const void* row = nullptr;    // of load_matrices
    int* sums = nullptr;          // of add_common_bits
    const unsigned* a = nullptr;
    unsigned b[2]{};
};

inline std::vector<Lane> lanes;
inline std::vector<unsigned char> memory;
inline std::vector<std::pair<const char*, const char*>> readable;  // by asynchronous copies
inline std::mt19937 chance;
inline jmp_buf scheduler;
inline unsigned current = 0;
inline Index block, block_size;
inline void (*kernel)(const void*) = nullptr;
inline const void* arguments = nullptr;
inline std::string fault;  // exceptions cannot leave a coroutine
inline long conflicts = 0;

inline void expect(bool holds, const char* otherwise) {
    if (!holds && fault.empty()) fault = otherwise;
}

inline unsigned char* aligned_memory() {
    const auto address = reinterpret_cast<std::size_t>(memory.data());
    return memory.data() + (128 - address % 128) % 128;
}

inline bool in_shared(const void* from, int bytes) {
    const auto* first = static_cast<const unsigned char*>(from);
    return first >= aligned_memory() && first + bytes <= aligned_memory() + memory.size() - 128;
}

inline void wait(Waits what) {
    Lane& lane = lanes[current];
    lane.waits = what;
    if (_setjmp(lane.state) == 0) _longjmp(scheduler, 1);
}

inline void run_lane() {
    kernel(arguments);
    wait(Waits::FOR_EVER);
}

inline void resume(unsigned number) {
    current = number;
    Lane& lane = lanes[number];
    lane.waits = Waits::NO;
    if (_setjmp(scheduler) != 0) return;
    if (lane.started) _longjmp(lane.state, 1);
    lane.started = true;
    getcontext(&lane.start);
    lane.start.uc_stack.ss_sp = lane.stack.data();
    lane.start.uc_stack.ss_size = lane.stack.size();
    makecontext(&lane.start, run_lane, 0);
    setcontext(&lane.start);
}

inline void perform(const Copy& copy) {
    if (copy.present) {
        std::memcpy(copy.to, copy.from, copy.bytes);
    } else {
        std::memset(copy.to, 0, copy.bytes);
    }
}

// ldmatrix.x4: matrix m has its rows from lanes 8m to 8m + 7; eight rows of 16 bytes in one access must fill all banks.
inline void load_matrices(Lane* warp) {
    for (int matrix = 0; matrix < 4; ++matrix) {
        unsigned banks = 0;
        for (int row = 0; row < 8; ++row) {
            const void* from = warp[matrix * 8 + row].row;
            const auto address = reinterpret_cast<std::size_t>(from);
            expect(address % 16 == 0 && in_shared(from, 16), "a row of a matrix is not 16 aligned shared bytes");
            banks |= 1u << (address / 16 % 8);
            if (!fault.empty()) return;
            for (int word = 0; word < 4; ++word) {
                std::memcpy(&warp[row * 4 + word].words[matrix], static_cast<const unsigned*>(from) + word, 4);
            }
        }
        conflicts += banks != 0xff;
    }
}

// mma.m16n8k256: the matrices are put together as the PTX ISA lays out their fragments, then multiplied.
inline void add_common_bits(Lane* warp) {
    unsigned a[16][8], b[8][8];
    for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) a[lane / 4 + (i % 2) * 8][lane % 4 + (i / 2) * 4] = warp[lane].a[i];
        for (int i = 0; i < 2; ++i) b[lane / 4][lane % 4 + i * 4] = warp[lane].b[i];
    }
    for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + (i / 2) * 8, column = lane % 4 * 2 + i % 2;
            for (int word = 0; word < 8; ++word) {
                warp[lane].sums[i] += __builtin_popcount(a[row][word] & b[column][word]);
            }
        }
    }
}

inline void perform(Waits what, Lane* warp) {
    if (what == Waits::FOR_MATRICES) load_matrices(warp);
    if (what == Waits::FOR_SUMS) add_common_bits(warp);
}

// Run a warp until all of its lanes wait for the block, or have ended.
inline void run_warp(unsigned first) {
    Lane* warp = &lanes[first];
    while (fault.empty()) {
        for (unsigned lane = 0; lane < 32; ++lane) {
            if (warp[lane].waits == Waits::NO) resume(first + lane);
        }
        const Waits what = warp[0].waits;
        for (unsigned lane = 1; lane < 32; ++lane) expect(warp[lane].waits == what, "the lanes of a warp have parted");
        if (what == Waits::FOR_BLOCK || what == Waits::FOR_EVER) return;
        perform(what, warp);
        for (unsigned lane = 0; lane < 32; ++lane) warp[lane].waits = Waits::NO;
    }
}

inline void run_block() {
    for (auto& byte : memory) byte = static_cast<unsigned char>(chance());
    for (Lane& lane : lanes) {
        lane.started = false;
        lane.waits = Waits::NO;
        lane.copies.assign(1, {});
    }
    while (fault.empty()) {
        std::vector<unsigned> warps;
        for (unsigned first = 0; first < lanes.size(); first += 32) {
            if (lanes[first].waits == Waits::NO) warps.push_back(first);
        }
        if (warps.empty()) {
            const Waits what = lanes[0].waits;
            for (Lane& lane : lanes) expect(lane.waits == what, "a thread has ended while others wait for the block");
            if (what == Waits::FOR_EVER) return;
            for (Lane& lane : lanes) lane.waits = Waits::NO;
        } else {
            run_warp(warps[chance() % warps.size()]);
        }
    }
}

inline void exchange(unsigned& word) {
    lanes[current].words = &word;
    wait(Waits::FOR_WORDS);
}

}  // namespace emulated

#define threadIdx (emulated::Index{emulated::current, 0})
#define blockIdx (emulated::block)
#define blockDim (emulated::block_size)
#define __syncthreads() emulated::wait(emulated::Waits::FOR_BLOCK)

template <class T>
inline T& shared_memory() {
    emulated::expect(emulated::memory.size() == sizeof(T) + 128, "the block has not the shared memory that it uses");
    if (!emulated::fault.empty()) emulated::wait(emulated::Waits::FOR_EVER);
    return *reinterpret_cast<T*>(emulated::aligned_memory());
}

template <int BYTES>
inline void copy_async(void* shared, const void* global, bool present) {
    using namespace emulated;
    const auto* from = static_cast<const char*>(global);
    bool allowed = !present;
    for (const auto& [first, last] : readable) allowed |= from >= first && from + BYTES <= last;
    expect(allowed, "a copy reads outside of its arguments");
    expect(in_shared(shared, BYTES), "a copy writes outside of shared memory");
    const auto either = reinterpret_cast<std::size_t>(shared) | reinterpret_cast<std::size_t>(global);
    expect(either % BYTES == 0, "a copy is not aligned");
    if (!fault.empty()) return;
    const Copy copy{shared, global, BYTES, present};
    if (chance() % 2) {
        perform(copy);
    } else {
        lanes[current].copies.back().push_back(copy);
    }
}

inline void commit_copies() { emulated::lanes[emulated::current].copies.emplace_back(); }

template <int PENDING>
inline void wait_copies() {
    auto& groups = emulated::lanes[emulated::current].copies;  // the last is open
    while (groups.size() > PENDING + 1) {
        for (const auto& copy : groups.front()) emulated::perform(copy);
        groups.erase(groups.begin());
    }
}

inline void load_matrices(unsigned (&words)[4], const void* shared) {
    emulated::lanes[emulated::current].words = words;
    emulated::lanes[emulated::current].row = shared;
    emulated::wait(emulated::Waits::FOR_MATRICES);
}

inline void add_common_bits(int (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    auto& lane = emulated::lanes[emulated::current];
    lane.sums = sums;
    lane.a = a;
    lane.b[0] = b0;
    lane.b[1] = b1;
    emulated::wait(emulated::Waits::FOR_SUMS);
}

template <class T>
inline void store(T* to, T value) {
    emulated::expect(reinterpret_cast<std::size_t>(to) % sizeof(T) == 0, "a store is not aligned");
    *to = value;
}

inline unsigned quad_or(unsigned word) {
    unsigned mine = word, all = 0;
    emulated::exchange(mine);
    for (unsigned lane = 0; lane < 4; ++lane) all |= *emulated::lanes[emulated::current / 4 * 4 + lane].words;
    emulated::wait(emulated::Waits::FOR_WORDS);  // all have read
    return all;
}

inline unsigned lane_bits(bool bit) {
    unsigned mine = bit, all = 0;
    emulated::exchange(mine);
    const unsigned warp = emulated::current / 32 * 32;
    for (unsigned lane = 0; lane < 32; ++lane) all |= *emulated::lanes[warp + lane].words << lane;
    emulated::wait(emulated::Waits::FOR_WORDS);
    return all;
}

inline int ones(unsigned word) { return __builtin_popcount(word); }

inline unsigned short half_of(float value) {
    const auto half = static_cast<_Float16>(value);
    unsigned short bits;
    std::memcpy(&bits, &half, 2);
    return bits;
}

inline float float_of(unsigned short bits) {
    _Float16 half;
    std::memcpy(&half, &bits, 2);
    return static_cast<float>(half);
}
