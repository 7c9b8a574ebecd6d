// The same products for callers without ONNX Runtime, through a plain C interface: PyTorch operators and benchmarks.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <exception>
#include <thread>

#include "product.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace frostline {
namespace {

void tell(const std::exception& error, char* message, int64_t room) {
    std::strncpy(message, error.what(), size_t(room - 1));
    message[room - 1] = 0;
}

// Threads live for one call: what is worth several of them takes longer than to start them.
void on_threads(int64_t threads, int64_t count, const std::function<void(int64_t)>& task) {
    std::atomic<int64_t> next{0};
    const auto work = [&] {
        for (int64_t i; (i = next++) < count;) task(i);
    };
    std::vector<std::thread> others;
    try {
        for (int64_t i = 1; i < std::min(threads, count); ++i) others.emplace_back(work);
    } catch (const std::exception&) {  // no more threads are to be had: fewer do the work
    }
    work();
    for (std::thread& other : others) other.join();
}

}  // namespace

}  // namespace frostline

using namespace frostline;

// The engines of this processor, the fastest first, separated by spaces.
EXPORTED const char* frostline_engines() {
    static const std::string names = [] {
        std::string all;
        for (const Engine* engine : engines()) all += (all.empty() ? "" : " ") + std::string(engine->name);
        return all;
    }();
    return names.c_str();
}

// Let products made from now on use one engine; an empty name chooses the fastest. Returns whether there is such a one.
EXPORTED int frostline_choose(const char* name) {
    if (!*name) return choose_engine(nullptr), 1;
    for (const Engine* engine : engines())
        if (!std::strcmp(engine->name, name)) return choose_engine(engine), 1;
    return 0;
}

// `pads` has twice `axes` entries. Of thresholds and high, and of scale and shift, both are null or neither.
EXPORTED void* frostline_product(const uint8_t* bits, int64_t outputs, int64_t inputs, int64_t axes, const int64_t* kernel,
                                 const int64_t* strides, const int64_t* pads, const int64_t* dilations, int64_t groups,
                                 int rows, const float* thresholds, const float* high, const float* scale,
                                 const float* shift, const float* limits, char* message, int64_t room) {
    try {
        const Window window = {{kernel, kernel + axes}, {strides, strides + axes}, {pads, pads + 2 * axes}, {dilations, dilations + axes}, groups};
        auto product = std::make_unique<Product>(bits, outputs, inputs, window, rows, thresholds, high);
        if (scale) product->scale_by(scale, shift);
        if (limits) product->clip_to(limits);
        return product.release();
    } catch (const std::exception& error) {
        return tell(error, message, room), nullptr;
    }
}

EXPORTED int frostline_out_sizes(void* product, int64_t axes, const int64_t* in_sizes, int64_t* out_sizes, char* message, int64_t room) {
    try {
        const std::vector<int64_t> out = static_cast<Product*>(product)->out_sizes({in_sizes, in_sizes + axes});
        return std::copy(out.begin(), out.end(), out_sizes), 1;
    } catch (const std::exception& error) {
        return tell(error, message, room), 0;
    }
}

EXPORTED int frostline_run(void* product, int64_t batch, int64_t axes, const int64_t* in_sizes, const float* x,
                           const uint32_t* x_bits, const float* residual, float* y, uint32_t* y_bits, int64_t threads,
                           char* message, int64_t room) {
    try {
        Tensors t{};
        t.batch = batch, t.x = x, t.x_bits = x_bits, t.residual = residual, t.y = y, t.y_bits = y_bits;
        static_cast<Product*>(product)->run({in_sizes, in_sizes + axes}, t, [&](int64_t count, const std::function<void(int64_t)>& task) {
            on_threads(threads, count, task);
        });
        return 1;
    } catch (const std::exception& error) {
        return tell(error, message, room), 0;
    }
}

// Products a second that the chosen engine's instructions can make at best, without any memory: the fastest of many tries.
EXPORTED double frostline_limit() {
    const Engine* engine = chosen_engine();
    double best = 0;
    for (int i = 0; i < 200; ++i) {
        const auto began = std::chrono::steady_clock::now();
        const double products = double(engine->spin(20000));
        best = std::max(best, products / std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    }
    return best;
}

// Cycles a second: additions that wait for one another take one each.
EXPORTED double frostline_clock() {
    double best = 0;
    for (int i = 0; i < 200; ++i) {
        const auto began = std::chrono::steady_clock::now();
        uint64_t sum = 0;
        for (int k = 0; k < 20000; ++k) {
#pragma GCC unroll 8
            for (int j = 0; j < 8; ++j) {
                ++sum;
                asm volatile("" : "+r"(sum));
            }
        }
        best = std::max(best, double(sum) / std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    }
    return best;
}

EXPORTED const char* frostline_engine(void* product) { return static_cast<Product*>(product)->engine().name; }

EXPORTED void frostline_free(void* product) { delete static_cast<Product*>(product); }

EXPORTED void frostline_pack(const float* x, int64_t images, int64_t channels, int64_t pixels, int rows, uint32_t* bits) {
    const Engine* engine = chosen_engine();
    for (int64_t i = 0; i < images; ++i)
        engine->pack(x + i * channels * pixels, channels, pixels, rows, bits + i * pixels * words_of(channels));
}
