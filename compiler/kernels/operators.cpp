// The binary operators of ONNX Runtime's domain `frostline`, for its CPU provider.
//
// `BinaryConv` and `BinaryLinear` are those of an exported file: signs as floats in, integers as floats out. The others
// stand for several nodes of a file, which `compiler/fusing.py` puts together: `FusedConv` and `FusedLinear` take the
// float before its sign is taken, `PackedConv` and `PackedLinear` take bits, and all give floats, bits, or both. `Pack`
// gives the bits of floats, and `PoolBits` stands for a max pooling between products.

#include <algorithm>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "ort.h"
#include "pooling.h"
#include "product.h"

namespace frostline {

namespace {

using ort::Api;

struct Failed : std::runtime_error {
    using std::runtime_error::runtime_error;
};

void ensure(const Api& api, OrtStatus* status) {
    if (!status) return;
    const std::string message = api.GetErrorMessage(status);
    api.ReleaseStatus(status);
    throw Failed(message);
}

std::vector<int64_t> numbers(const Api& api, const OrtKernelInfo* info, const char* name) {
    size_t size = 0;
    ensure(api, api.KernelInfoGetAttributeArray_int64(info, name, nullptr, &size));
    std::vector<int64_t> found(size);
    if (size) ensure(api, api.KernelInfoGetAttributeArray_int64(info, name, found.data(), &size));
    return found;
}

struct Tensor {
    std::vector<int64_t> shape;
    void* data = nullptr;

    int64_t size(size_t from = 0) const {
        int64_t count = 1;
        for (size_t i = from; i < shape.size(); ++i) count *= shape[i];
        return count;
    }
};

Tensor tensor(const Api& api, const OrtValue* value) {
    Tensor found;
    if (!value) return found;
    OrtTensorTypeAndShapeInfo* info = nullptr;
    ensure(api, api.GetTensorTypeAndShape(value, &info));
    size_t rank = 0;
    OrtStatus* status = api.GetDimensionsCount(info, &rank);
    found.shape.resize(rank);
    if (!status && rank) status = api.GetDimensions(info, found.shape.data(), rank);
    api.ReleaseTensorTypeAndShapeInfo(info);
    ensure(api, status);
    ensure(api, api.GetTensorMutableData(const_cast<OrtValue*>(value), &found.data));
    return found;
}

Tensor constant(const Api& api, const OrtKernelInfo* info, size_t index) {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    ensure(api, api.KernelInfoGetConstantInput_tensor(info, index, &is_constant, &value));
    return is_constant ? tensor(api, value) : Tensor{};
}

enum Input { kX, kBits, kThresholds, kHigh, kScale, kShift, kLimits, kResidual, kInputs };
enum Output { kY, kYBits, kOutputs };

struct Kind : ort::CustomOp {
    const char* name;
    bool conv, packed, fused;  // packed: x is bits; fused: it has the optional inputs and outputs
};

struct Kernel {
    Api api;
    const Kind* kind;
    std::unique_ptr<Product> product;

    Kernel(const Api& given, const Kind* of, const OrtKernelInfo* info) : api(given), kind(of) {
        const Tensor bits = constant(api, info, kBits);
        if (!bits.data || bits.shape.size() < 2) throw Failed("its bits are no constant");
        const std::vector<int64_t> inputs = numbers(api, info, "inputs");
        Window window;
        if (kind->conv) {
            window.kernel = numbers(api, info, "kernel_shape"), window.strides = numbers(api, info, "strides");
            window.pads = numbers(api, info, "pads"), window.dilations = numbers(api, info, "dilations");
            ensure(api, api.KernelInfoGetAttribute_int64(info, "group", &window.groups));
        }
        std::vector<int64_t> shape = {bits.shape[0]};
        shape.insert(shape.end(), window.kernel.begin(), window.kernel.end());
        if (inputs.size() != 1) throw Failed("`inputs` is not one number");
        shape.push_back(words_of(inputs[0]) * 4);
        if (shape != bits.shape) throw Failed("its bits have not the shape that its attributes say");
        const Tensor thresholds = kind->fused ? constant(api, info, kThresholds) : Tensor();
        const float* at = thresholds.data ? of_each(thresholds, bits) : nullptr;
        const float* high = at ? of_each(constant(api, info, kHigh), bits) : nullptr;
        product = std::make_unique<Product>(static_cast<const uint8_t*>(bits.data), bits.shape[0], inputs[0], window, !kind->conv, at, high);
        if (!kind->fused) return;
        if (const Tensor scale = constant(api, info, kScale), shift = constant(api, info, kShift); scale.data)
            product->scale_by(of_each(scale, bits), of_each(shift, bits));
        if (const Tensor limits = constant(api, info, kLimits); limits.data) {
            if (limits.size() != 2) throw Failed("there are not two limits");
            product->clip_to(static_cast<const float*>(limits.data));
        }
    }

    static const float* of_each(const Tensor& found, const Tensor& bits) {
        if (!found.data || found.size() != bits.shape[0]) throw Failed("a constant has not one entry for each output");
        return static_cast<const float*>(found.data);
    }

    Tensor input(OrtKernelContext* context, size_t index) const {
        size_t count = 0;
        ensure(api, api.KernelContext_GetInputCount(context, &count));
        const OrtValue* value = nullptr;
        if (index < count) ensure(api, api.KernelContext_GetInput(context, index, &value));
        return tensor(api, value);
    }

    void* output(OrtKernelContext* context, size_t index, const std::vector<int64_t>& shape) const {
        size_t count = 0;
        ensure(api, api.KernelContext_GetOutputCount(context, &count));
        OrtValue* value = nullptr;
        if (index < count) ensure(api, api.KernelContext_GetOutput(context, index, shape.data(), shape.size(), &value));
        void* data = nullptr;
        if (value) ensure(api, api.GetTensorMutableData(value, &data));
        return data;
    }

    // The sizes between the batch and the channels. Of rows, all but the channels are pixels of one image.
    std::vector<int64_t> sizes(const Tensor& x) const {
        const size_t rank = x.shape.size();
        const int64_t channels = kind->packed ? words_of(product->inputs()) * 4 : product->inputs();
        const bool last = kind->packed || !kind->conv;
        if (rank < (kind->conv ? 2 : 1) || x.shape[last ? rank - 1 : 1] != channels) throw Failed("x has not as many channels as the weights");
        if (!kind->conv) return {x.size() / channels, 1};
        return last ? std::vector<int64_t>(x.shape.begin() + 1, x.shape.end() - 1) : std::vector<int64_t>(x.shape.begin() + 2, x.shape.end());
    }

    void compute(OrtKernelContext* context) const {
        const Tensor x = input(context, kX);
        const std::vector<int64_t> in = sizes(x);
        std::vector<int64_t> floats, bits;  // the shapes of the results
        const int64_t words = words_of(product->outputs()) * 4;
        if (kind->conv) {
            const std::vector<int64_t> out = product->out_sizes(in);
            floats = {x.shape[0], product->outputs()}, bits = {x.shape[0]};
            floats.insert(floats.end(), out.begin(), out.end()), bits.insert(bits.end(), out.begin(), out.end());
            bits.push_back(words);
        } else {
            floats = bits = x.shape;
            floats.back() = product->outputs(), bits.back() = words;
        }
        Tensors t{};
        t.batch = kind->conv ? x.shape[0] : 1;
        (kind->packed ? reinterpret_cast<const void*&>(t.x_bits) : reinterpret_cast<const void*&>(t.x)) = x.data;
        if (!product->gives_bits()) t.y = static_cast<float*>(output(context, kY, floats));
        if (kind->fused) {
            t.y_bits = static_cast<uint32_t*>(output(context, kYBits, bits));
            const Tensor residual = input(context, kResidual);
            if (residual.data && residual.shape != floats) throw Failed("the residual has another shape than the result");
            t.residual = static_cast<const float*>(residual.data);
        }
        if (std::find(floats.begin(), floats.end(), 0) != floats.end()) return;
        if (product->gives_bits() ? !t.y_bits : !t.y) throw Failed("nobody reads what it gives");
        product->run(in, t, [&](int64_t count, const std::function<void(int64_t)>& task) {
            if (count == 1) return task(0);
            const auto call = [](void* data, size_t i) { (*static_cast<const std::function<void(int64_t)>*>(data))(int64_t(i)); };
            ensure(api, api.KernelContext_ParallelFor(context, call, size_t(count), 0, const_cast<std::function<void(int64_t)>*>(&task)));
        });
    }
};

template <typename Function>
OrtStatus* guarded(const Api& api, const char* name, Function&& function) {
    try {
        function();
        return nullptr;
    } catch (const std::exception& error) {
        return api.CreateStatus(ort::kInvalidArgument, (std::string("frostline.") + name + ": " + error.what()).c_str());
    }
}

const Kind& kind_of(const ort::CustomOp* op) { return *static_cast<const Kind*>(op); }

Kind kind(const char* name, bool conv, bool packed, bool fused) {
    Kind k{};
    k.version = ort::kApiVersion;
    k.name = name, k.conv = conv, k.packed = packed, k.fused = fused;
    k.GetName = [](const ort::CustomOp* op) { return kind_of(op).name; };
    k.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    k.GetInputType = [](const ort::CustomOp* op, size_t i) {
        return i == kBits || (i == kX && kind_of(op).packed) ? ort::kUint8 : ort::kFloat;
    };
    k.GetInputTypeCount = [](const ort::CustomOp* op) -> size_t { return kind_of(op).fused ? size_t(kInputs) : 2; };
    k.GetOutputType = [](const ort::CustomOp*, size_t i) { return i == kY ? ort::kFloat : ort::kUint8; };
    k.GetOutputTypeCount = [](const ort::CustomOp* op) -> size_t { return kind_of(op).fused ? size_t(kOutputs) : 1; };
    k.GetInputCharacteristic = [](const ort::CustomOp*, size_t i) { return i <= kBits ? ort::kRequired : ort::kOptional; };
    k.GetOutputCharacteristic = [](const ort::CustomOp* op, size_t) { return kind_of(op).fused ? ort::kOptional : ort::kRequired; };
    k.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
    k.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    k.CreateKernelV2 = [](const ort::CustomOp* op, const void* const* table, const OrtKernelInfo* info, void** kernel) {
        const Api api{table};
        return guarded(api, kind_of(op).name, [&] { *kernel = new Kernel(api, &kind_of(op), info); });
    };
    k.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
        const Kernel& own = *static_cast<Kernel*>(kernel);
        return guarded(own.api, own.kind->name, [&] { own.compute(context); });
    };
    return k;
}

// An operator that gives bits of one value; what it is called and what it takes are its kernel's own.
template <typename Own>
ort::CustomOp unary() {
    ort::CustomOp op{};
    op.version = ort::kApiVersion;
    op.GetName = [](const ort::CustomOp*) { return Own::kName; };
    op.GetExecutionProviderType = [](const ort::CustomOp*) -> const char* { return nullptr; };
    op.GetInputType = [](const ort::CustomOp*, size_t) { return Own::kType; };
    op.GetInputTypeCount = [](const ort::CustomOp*) -> size_t { return Own::kInputs; };
    op.GetInputCharacteristic = [](const ort::CustomOp*, size_t i) { return i ? ort::kOptional : ort::kRequired; };
    op.GetOutputType = [](const ort::CustomOp*, size_t) { return ort::kUint8; };
    op.GetOutputTypeCount = [](const ort::CustomOp*) -> size_t { return 1; };
    op.GetOutputCharacteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
    op.GetInputMemoryType = [](const ort::CustomOp*, size_t) { return 0; };
    op.KernelDestroy = [](void* kernel) { delete static_cast<Own*>(kernel); };
    op.CreateKernelV2 = [](const ort::CustomOp*, const void* const* table, const OrtKernelInfo* info, void** kernel) {
        const Api api{table};
        return guarded(api, Own::kName, [&] { *kernel = new Own(api, info); });
    };
    op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) {
        const Own& own = *static_cast<Own*>(kernel);
        return guarded(own.api, Own::kName, [&] {
            const OrtValue* value = nullptr;
            ensure(own.api, own.api.KernelContext_GetInput(context, 0, &value));
            own.compute(context, tensor(own.api, value));
        });
    };
    return op;
}

uint32_t* bits_out(const Api& api, OrtKernelContext* context, const std::vector<int64_t>& shape) {
    OrtValue* value = nullptr;
    ensure(api, api.KernelContext_GetOutput(context, 0, shape.data(), shape.size(), &value));
    void* bits = nullptr;
    ensure(api, api.GetTensorMutableData(value, &bits));
    return static_cast<uint32_t*>(bits);
}

// Packs the signs of floats for operators that take bits: `[n, channels, *pixels]`, or `[..., channels]` of rows.
struct Pack {
    static constexpr const char* kName = "Pack";
    static constexpr int kType = ort::kFloat;
    static constexpr size_t kInputs = 1;
    Api api;
    int64_t rows = 0;

    Pack(const Api& given, const OrtKernelInfo* info) : api(given) { ensure(api, api.KernelInfoGetAttribute_int64(info, "rows", &rows)); }

    void compute(OrtKernelContext* context, const Tensor& x) const {
        if (x.shape.size() < (rows ? 1 : 2)) throw Failed("x has no channels");
        const int64_t channels = rows ? x.shape.back() : x.shape[1], images = rows ? 1 : x.shape[0];
        std::vector<int64_t> shape = x.shape;
        if (!rows) shape.erase(shape.begin() + 1), shape.push_back(0);
        shape.back() = words_of(channels) * 4;
        uint32_t* bits = bits_out(api, context, shape);
        if (!x.size()) return;
        struct Work {
            const float* x;
            uint32_t* bits;
            int64_t channels, pixels;
            bool rows;
            const Engine* engine;
        } work = {static_cast<const float*>(x.data), bits, channels, x.size() / channels / images, rows != 0, chosen_engine()};
        const auto call = [](void* data, size_t i) {
            const Work& w = *static_cast<const Work*>(data);
            const int64_t at = int64_t(i) * w.pixels;
            w.engine->pack(w.x + at * w.channels, w.channels, w.pixels, w.rows, w.bits + at * words_of(w.channels));
        };
        ensure(api, api.KernelContext_ParallelFor(context, call, size_t(images), 0, &work));
    }
};

// Max pooling of packed signs, `[n, *pixels, bytes]`, and a constant `[bytes]`, if given: bits that are turned after it.
struct PoolBits {
    static constexpr const char* kName = "PoolBits";
    static constexpr int kType = ort::kUint8;
    static constexpr size_t kInputs = 2;
    Api api;
    size_t axes;
    BitPool pool;
    std::vector<uint32_t> flips;

    PoolBits(const Api& given, const OrtKernelInfo* info)
        : api(given), axes(numbers(api, info, "kernel_shape").size()),
          pool(numbers(api, info, "kernel_shape"), numbers(api, info, "strides"), numbers(api, info, "pads")) {
        const Tensor given_flips = constant(api, info, 1);
        if (!given_flips.data) return;
        flips.resize(size_t(given_flips.size() / 4));
        std::memcpy(flips.data(), given_flips.data, flips.size() * 4);
    }

    void compute(OrtKernelContext* context, const Tensor& x) const {
        if (x.shape.size() != axes + 2 || x.shape.back() % 4) throw Failed("x has other axes than its window");
        if (!flips.empty() && int64_t(flips.size()) * 4 != x.shape.back()) throw Failed("x has other channels than are turned");
        std::vector<int64_t> in(kAxes - axes, 1);
        in.insert(in.end(), x.shape.begin() + 1, x.shape.end() - 1);
        const std::vector<int64_t> out = pool.out_sizes(in);
        std::vector<int64_t> shape = {x.shape[0]};
        shape.insert(shape.end(), out.end() - int64_t(axes), out.end()), shape.push_back(x.shape.back());
        uint32_t* bits = bits_out(api, context, shape);
        if (!x.size()) return;
        struct Work {
            const BitPool& pool;
            const uint32_t *x, *flips;
            uint32_t* y;
            const std::vector<int64_t>& in;
            int64_t words, pixels_in, pixels_out;
        } work = {pool, static_cast<const uint32_t*>(x.data), flips.empty() ? nullptr : flips.data(), bits, in, x.shape.back() / 4, in[0] * in[1] * in[2], out[0] * out[1] * out[2]};
        const auto call = [](void* data, size_t i) {
            const Work& w = *static_cast<const Work*>(data);
            w.pool.run(w.x + int64_t(i) * w.pixels_in * w.words, w.in, w.words, w.flips, w.y + int64_t(i) * w.pixels_out * w.words);
        };
        ensure(api, api.KernelContext_ParallelFor(context, call, size_t(x.shape[0]), 0, &work));
    }
};

}  // namespace
}  // namespace frostline

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const ort::ApiBase* base) {
    using namespace frostline;
    static const Kind kinds[] = {
        kind("BinaryConv", true, false, false), kind("BinaryLinear", false, false, false),
        kind("FusedConv", true, false, true),   kind("FusedLinear", false, false, true),
        kind("PackedConv", true, true, true),   kind("PackedLinear", false, true, true),
    };
    static const ort::CustomOp others[] = {unary<Pack>(), unary<PoolBits>()};
    const void* const* table = base->GetApi(ort::kApiVersion);
    if (!table) {  // an older runtime: its first table has what makes a status
        const Api old{base->GetApi(1)};
        return old.table ? old.CreateStatus(ort::kFail, "frostline's operators need ONNX Runtime 1.19 or later") : nullptr;
    }
    const Api api{table};
    if (std::strncmp(api.GetBuildInfoString(), "ORT Build Info", 14) != 0)
        return api.CreateStatus(ort::kFail, "frostline's operators do not know this ONNX Runtime's interface");
    OrtCustomOpDomain* domain = nullptr;
    if (OrtStatus* status = api.CreateCustomOpDomain("frostline", &domain)) return status;
    for (const Kind& one : kinds)
        if (OrtStatus* status = api.CustomOpDomain_Add(domain, static_cast<const ort::CustomOp*>(&one))) return status;
    for (const ort::CustomOp& one : others)
        if (OrtStatus* status = api.CustomOpDomain_Add(domain, &one)) return status;
    return api.AddCustomOpDomain(options, domain);
}
