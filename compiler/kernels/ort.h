// What a custom operator needs of ONNX Runtime's binary interface, and no more. The table of functions only grows, so
// that a place in it keeps its meaning (onnxruntime_c_api.h, `OrtApi`); the interface asked for is that of 1.17.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

namespace ort {

constexpr uint32_t kApiVersion = 17;
constexpr int kFail = 1, kInvalidArgument = 2;
constexpr int kFloat = 1, kUint8 = 2;
constexpr int kRequired = 0, kOptional = 1;

struct ApiBase {
    const void* const* (*GetApi)(uint32_t version);
    const char* (*GetVersionString)();
};

struct Api {
    const void* const* table;

    template <typename Function>
    Function at(int place) const {
        return reinterpret_cast<Function>(const_cast<void*>(table[place]));
    }
    OrtStatus* CreateStatus(int code, const char* message) const { return at<OrtStatus* (*)(int, const char*)>(0)(code, message); }
    OrtStatus* CreateCustomOpDomain(const char* name, OrtCustomOpDomain** out) const {
        return at<OrtStatus* (*)(const char*, OrtCustomOpDomain**)>(26)(name, out);
    }
    OrtStatus* CustomOpDomain_Add(OrtCustomOpDomain* domain, const void* op) const {
        return at<OrtStatus* (*)(OrtCustomOpDomain*, const void*)>(27)(domain, op);
    }
    OrtStatus* AddCustomOpDomain(OrtSessionOptions* options, OrtCustomOpDomain* domain) const {
        return at<OrtStatus* (*)(OrtSessionOptions*, OrtCustomOpDomain*)>(28)(options, domain);
    }
    OrtStatus* GetTensorMutableData(OrtValue* value, void** out) const { return at<OrtStatus* (*)(OrtValue*, void**)>(51)(value, out); }
    OrtStatus* GetDimensionsCount(const OrtTensorTypeAndShapeInfo* info, size_t* out) const {
        return at<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, size_t*)>(61)(info, out);
    }
    OrtStatus* GetDimensions(const OrtTensorTypeAndShapeInfo* info, int64_t* out, size_t count) const {
        return at<OrtStatus* (*)(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>(62)(info, out, count);
    }
    OrtStatus* GetTensorTypeAndShape(const OrtValue* value, OrtTensorTypeAndShapeInfo** out) const {
        return at<OrtStatus* (*)(const OrtValue*, OrtTensorTypeAndShapeInfo**)>(65)(value, out);
    }
    OrtStatus* KernelInfoGetAttribute_int64(const OrtKernelInfo* info, const char* name, int64_t* out) const {
        return at<OrtStatus* (*)(const OrtKernelInfo*, const char*, int64_t*)>(86)(info, name, out);
    }
    OrtStatus* KernelContext_GetInputCount(const OrtKernelContext* context, size_t* out) const {
        return at<OrtStatus* (*)(const OrtKernelContext*, size_t*)>(88)(context, out);
    }
    OrtStatus* KernelContext_GetOutputCount(const OrtKernelContext* context, size_t* out) const {
        return at<OrtStatus* (*)(const OrtKernelContext*, size_t*)>(89)(context, out);
    }
    OrtStatus* KernelContext_GetInput(const OrtKernelContext* context, size_t index, const OrtValue** out) const {
        return at<OrtStatus* (*)(const OrtKernelContext*, size_t, const OrtValue**)>(90)(context, index, out);
    }
    OrtStatus* KernelContext_GetOutput(OrtKernelContext* context, size_t index, const int64_t* shape, size_t rank, OrtValue** out) const {
        return at<OrtStatus* (*)(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>(91)(context, index, shape, rank, out);
    }
    void ReleaseStatus(OrtStatus* status) const { at<void (*)(OrtStatus*)>(93)(status); }
    const char* GetErrorMessage(const OrtStatus* status) const { return at<const char* (*)(const OrtStatus*)>(2)(status); }
    void ReleaseTensorTypeAndShapeInfo(OrtTensorTypeAndShapeInfo* info) const {
        at<void (*)(OrtTensorTypeAndShapeInfo*)>(99)(info);
    }
    OrtStatus* KernelInfoGetAttributeArray_int64(const OrtKernelInfo* info, const char* name, int64_t* out, size_t* size) const {
        return at<OrtStatus* (*)(const OrtKernelInfo*, const char*, int64_t*, size_t*)>(163)(info, name, out, size);
    }
    OrtStatus* KernelInfoGetConstantInput_tensor(const OrtKernelInfo* info, size_t index, int* is_constant, const OrtValue** out) const {
        return at<OrtStatus* (*)(const OrtKernelInfo*, size_t, int*, const OrtValue**)>(249)(info, index, is_constant, out);
    }
    const char* GetBuildInfoString() const { return at<const char* (*)()>(254)(); }
    OrtStatus* KernelContext_ParallelFor(const OrtKernelContext* context, void (*task)(void*, size_t), size_t total, size_t batches, void* data) const {
        return at<OrtStatus* (*)(const OrtKernelContext*, void (*)(void*, size_t), size_t, size_t, void*)>(274)(context, task, total, batches, data);
    }
};

// `OrtCustomOp` of 1.17, field by field.
struct CustomOp {
    uint32_t version;
    void* (*CreateKernel)(const CustomOp*, const void* const* api, const OrtKernelInfo*);
    const char* (*GetName)(const CustomOp*);
    const char* (*GetExecutionProviderType)(const CustomOp*);
    int (*GetInputType)(const CustomOp*, size_t);
    size_t (*GetInputTypeCount)(const CustomOp*);
    int (*GetOutputType)(const CustomOp*, size_t);
    size_t (*GetOutputTypeCount)(const CustomOp*);
    void (*KernelCompute)(void*, OrtKernelContext*);
    void (*KernelDestroy)(void*);
    int (*GetInputCharacteristic)(const CustomOp*, size_t);
    int (*GetOutputCharacteristic)(const CustomOp*, size_t);
    int (*GetInputMemoryType)(const CustomOp*, size_t);
    int (*GetVariadicInputMinArity)(const CustomOp*);
    int (*GetVariadicInputHomogeneity)(const CustomOp*);
    int (*GetVariadicOutputMinArity)(const CustomOp*);
    int (*GetVariadicOutputHomogeneity)(const CustomOp*);
    OrtStatus* (*CreateKernelV2)(const CustomOp*, const void* const* api, const OrtKernelInfo*, void** kernel);
    OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
    OrtStatus* (*InferOutputShapeFn)(const CustomOp*, void*);
    int (*GetStartVersion)(const CustomOp*);
    int (*GetEndVersion)(const CustomOp*);
    size_t (*GetMayInplace)(int**, int**);
    void (*ReleaseMayInplace)(int*, int*);
    size_t (*GetAliasMap)(int**, int**);
    void (*ReleaseAliasMap)(int*, int*);
};

}  // namespace ort
