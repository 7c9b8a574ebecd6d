// Launches the kernels of compiler/kernels/cuda on the emulated warps, by the names that cuda.py launches them by.
#include "warp.hpp"

#include "pack.cuh"
#include "plain.cuh"
#include "rate.cuh"
#include "tiled.cuh"

#include <map>

using namespace emulated;

namespace {

unsigned arguments_bytes;

template <auto KERNEL, class Arguments>
void call(const void* arguments) {
    expect(sizeof(Arguments) == arguments_bytes, "the arguments are of another size");
    if (fault.empty()) KERNEL(*static_cast<const Arguments*>(arguments));
}

#define CONVOLUTION(...) \
    { #__VA_ARGS__, call<__VA_ARGS__, Convolution> }
#define RESULTS(VECTOR, COLUMNS)                                                            \
    CONVOLUTION(tiled<VECTOR, COLUMNS, SUMS>), CONVOLUTION(tiled<VECTOR, COLUMNS, FLOATS>), \
        CONVOLUTION(tiled<VECTOR, COLUMNS, HALVES>), CONVOLUTION(tiled<VECTOR, COLUMNS, BITS>)
#define PACKING(TYPE)                                                \
    {"pack_planes<" #TYPE ">", call<pack_planes<TYPE>, Packing>}, { \
        "pack_rows<" #TYPE ">", call<pack_rows<TYPE>, Packing>      \
    }

const std::map<std::string, void (*)(const void*)> kernels = {
    RESULTS(1, 64), RESULTS(2, 64), RESULTS(4, 64), RESULTS(1, 128), RESULTS(2, 128), RESULTS(4, 128),
    CONVOLUTION(plain<SUMS>), CONVOLUTION(plain<FLOATS>), CONVOLUTION(plain<HALVES>), CONVOLUTION(plain<BITS>),
    {"rate<8>", call<rate<8>, Rate>}, PACKING(unsigned short), PACKING(unsigned), PACKING(unsigned long long),
};

}  // namespace

// Returns what went wrong, or null. `conflicts` counts the matrix loads whose rows did not lie in different banks.
extern "C" const char* launch(const char* name, const void* arguments, unsigned bytes, unsigned blocks_x,
                              unsigned blocks_y, unsigned threads, unsigned shared_bytes, unsigned seed,
                              long* conflicts) {
    arguments_bytes = bytes;
    const auto found = kernels.find(name);
    fault = found == kernels.end() ? std::string("there is no kernel ") + name : "";
    if (!fault.empty()) return fault.c_str();
    kernel = found->second;
    emulated::arguments = arguments;
    lanes.resize(threads);
    block_size = {threads, 1};
    chance.seed(seed);
    emulated::conflicts = 0;
    memory.assign(shared_bytes + 128, 0);
    readable.clear();
    if (found->first.rfind("tiled", 0) == 0) {
        const auto& c = *static_cast<const Convolution*>(arguments);
        const long long images = c.rows / c.out_height / c.out_width;
        const auto* pixels = reinterpret_cast<const char*>(c.activations);
        const auto* taps = reinterpret_cast<const char*>(c.weights);
        readable.emplace_back(pixels, pixels + images * c.height * c.width * c.words * 4);
        readable.emplace_back(taps, taps + 4ll * c.outputs * c.kernel_height * c.kernel_width * c.group_words);
    }
    for (block.y = 0; block.y < blocks_y; ++block.y) {
        for (block.x = 0; block.x < blocks_x; ++block.x) {
            run_block();
            if (!fault.empty()) return fault.c_str();
        }
    }
    *conflicts = emulated::conflicts;
    return nullptr;
}
