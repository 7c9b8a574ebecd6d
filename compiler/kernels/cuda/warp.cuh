// What only PTX can say, and what the lanes of a warp do together. Everything else is plain C++.
//
// The tests define FROSTLINE_WARP and bring these functions for a CPU, to run the very kernels on it.
#ifndef FROSTLINE_WARP
#define FROSTLINE_WARP

// What the threads of a block share.
template <class T>
__device__ inline T& shared_memory() {
    extern __shared__ __align__(128) unsigned char memory[];
    return *reinterpret_cast<T*>(memory);
}

// Start to copy BYTES, 4, 8 or 16, into shared memory; zeros where `present` is false.
template <int BYTES>
__device__ inline void copy_async(void* shared, const void* global, bool present) {
    const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int read = present ? BYTES : 0;
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(read) : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(global), "n"(BYTES), "r"(read)
                     : "memory");
    }
}

// Close a group of copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until all but the PENDING newest groups of this thread have arrived.
template <int PENDING>
__device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four matrices of 8 rows of 128 bits. Lane l gives the address of row l % 8 of matrix l / 8, and receives word l % 4
// of row l / 4 of each.
__device__ inline void load_matrices(unsigned (&words)[4], const void* shared) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(from)
                 : "memory");
}

// sums[16][8] += popcount(a[16][256 bits] & b[8][256 bits]), on the tensor cores of sm_80 to sm_90.
//
// Fragments of lane l (PTX ISA, "Matrix Fragments for mma.m16n8k256"): a[i] is row l / 4 + 8 * (i % 2), word
// l % 4 + 4 * (i / 2); bj is row l / 4, word l % 4 + 4 * j; sums[i] is row l / 4 + 8 * (i / 2), column
// l % 4 * 2 + i % 2.
__device__ inline void add_common_bits(int (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Write at once. The address must be a multiple of the size.
template <class T>
__device__ inline void store(T* to, T value) {
    *to = value;
}

// The bits of four neighbouring lanes, together.
__device__ inline unsigned quad_or(unsigned word) {
    word |= __shfl_xor_sync(0xffffffffu, word, 1);
    return word | __shfl_xor_sync(0xffffffffu, word, 2);
}

// Bit l is what lane l says.
__device__ inline unsigned lane_bits(bool bit) { return __ballot_sync(0xffffffffu, bit); }

__device__ inline int ones(unsigned word) { return __popc(word); }

// Half precision travels as its 16 bits: no header is needed.
__device__ inline unsigned short half_of(float value) {
    unsigned short half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}

__device__ inline float float_of(unsigned short half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

#endif
