// A plug-in on the VST3 SDK's own classes, without a framework: component and controller know of each other only through
// the host, and the component takes parameters with a block. One channel goes in, two come out.
//
// "Level" is in dB and gives the plain value instead of the normalized one for a text; "Spread" gives the choice before
// the one that is asked for (both seen in plug-ins that people own); "Heard" is a meter. "Dust" is lost as the plug-in starts to work, and adds to the
// sound what lies in memory that was never written, and a random number drawn by the C library (all three seen, too).

#include "base/source/fstreamer.h"
#include "pluginterfaces/gui/iplugview.h"
#include "pluginterfaces/base/ipluginbase.h"
#include "pluginterfaces/base/ustring.h"
#include "pluginterfaces/vst/ivstparameterchanges.h"
#include "public.sdk/source/vst/vstcomponent.h"
#include "public.sdk/source/vst/vsteditcontroller.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

using namespace Steinberg;
using namespace Steinberg::Vst;

// The SDK leaves it to each plug-in to name the interface of views.
DEF_CLASS_IID(IPlugView)
DEF_CLASS_IID(IPlugFrame)

namespace {

const FUID COMPONENT_ID(0x67627365, 0x70534B44, 0x74657374, 0x00000001);
const FUID CONTROLLER_ID(0x67627365, 0x70534B44, 0x74657374, 0x00000002);
enum : ParamID { LEVEL, SPREAD, DUST, HEARD };
constexpr int DUST_FRAMES = 4096;
constexpr double LOWEST_DB = -40.0;

} // namespace

class TestComponent : public Component, public IAudioProcessor
{
public:
    TestComponent() { setControllerClass(CONTROLLER_ID); }
    static FUnknown* create(void*) { return static_cast<IAudioProcessor*>(new TestComponent()); }

    tresult PLUGIN_API initialize(FUnknown* context) override
    {
        const tresult result = Component::initialize(context);
        addAudioInput();
        return result;
    }

    tresult PLUGIN_API setBusArrangements(SpeakerArrangement*, int32, SpeakerArrangement*, int32) override
    {
        return kResultFalse;
    }

    tresult PLUGIN_API getBusArrangement(BusDirection direction, int32, SpeakerArrangement& arrangement) override
    {
        arrangement = direction == kInput ? SpeakerArr::kMono : SpeakerArr::kStereo;
        return kResultTrue;
    }

    tresult PLUGIN_API canProcessSampleSize(int32 size) override { return size == kSample32 ? kResultTrue : kResultFalse; }
    uint32 PLUGIN_API getLatencySamples() override { return 0; }
    tresult PLUGIN_API setupProcessing(ProcessSetup&) override { return kResultOk; }
    tresult PLUGIN_API setActive(TBool active) override
    {
        if (active)
            values[DUST] = 0.0;
        return Component::setActive(active);
    }
    tresult PLUGIN_API setProcessing(TBool) override { return kNotImplemented; }
    uint32 PLUGIN_API getTailSamples() override { return 0; }

    tresult PLUGIN_API process(ProcessData& data) override
    {
        const int32 changes = data.inputParameterChanges ? data.inputParameterChanges->getParameterCount() : 0;
        for (int32 index = 0; index < changes; ++index) {
            IParamValueQueue* queue = data.inputParameterChanges->getParameterData(index);
            int32 frame = 0;
            ParamValue value = 0.0;
            if (queue && queue->getPoint(queue->getPointCount() - 1, frame, value) == kResultTrue
                && queue->getParameterId() < HEARD)
                values[queue->getParameterId()] = value;
        }
        const float gain = static_cast<float>(std::pow(10.0, LOWEST_DB * (1.0 - values[LEVEL]) / 20.0));
        float peak = 0.0f;
        for (int32 frame = 0; frame < data.numSamples; ++frame) {
            const float dust = static_cast<float>(values[DUST]) * (unwritten[frame % DUST_FRAMES] + drawn);
            const float out = gain * data.inputs[0].channelBuffers32[0][frame] + dust;
            data.outputs[0].channelBuffers32[0][frame] = out;
            data.outputs[0].channelBuffers32[1][frame] = out * static_cast<float>(1.0 - values[SPREAD]);
            peak = std::max(peak, std::fabs(out));
        }
        int32 index = 0;
        if (IParamValueQueue* meter = data.outputParameterChanges
                ? data.outputParameterChanges->addParameterData(HEARD, index) : nullptr)
            meter->addPoint(0, std::min(peak, 1.0f), index);
        return kResultOk;
    }

    tresult PLUGIN_API getState(IBStream* stream) override
    {
        IBStreamer streamer(stream, kLittleEndian);
        return streamer.writeDoubleArray(values, 3) ? kResultOk : kResultFalse;
    }

    tresult PLUGIN_API setState(IBStream* stream) override
    {
        IBStreamer streamer(stream, kLittleEndian);
        return streamer.readDoubleArray(values, 3) ? kResultOk : kResultFalse;
    }

    OBJ_METHODS(TestComponent, Component)
    DEFINE_INTERFACES
        DEF_INTERFACE(IAudioProcessor)
    END_DEFINE_INTERFACES(Component)
    REFCOUNT_METHODS(Component)

private:
    void addAudioInput()
    {
        audioInputs.push_back(IPtr<Bus>(new AudioBus(USTRING("In"), kMain, BusInfo::kDefaultActive, SpeakerArr::kMono), false));
        audioOutputs.push_back(IPtr<Bus>(new AudioBus(USTRING("Out"), kMain, BusInfo::kDefaultActive, SpeakerArr::kStereo), false));
    }

    double values[3] = {1.0, 0.0, 0.0};
    float drawn = 0.1f * static_cast<float>(std::rand()) / static_cast<float>(RAND_MAX);
    float* unwritten = static_cast<float*>(std::malloc(DUST_FRAMES * sizeof(float)));
};

class Level : public RangeParameter
{
public:
    Level() : RangeParameter(USTRING("Level"), LEVEL, USTRING("dB"), LOWEST_DB, 0.0, 0.0) { setPrecision(2); }
    bool fromString(const TChar* text, ParamValue& value) const override
    {
        return UString(const_cast<TChar*>(text), 128).scanFloat(value);
    }
};

class Spread : public StringListParameter
{
public:
    Spread() : StringListParameter(USTRING("Spread"), SPREAD)
    {
        appendString(USTRING("none"));
        appendString(USTRING("half"));
        appendString(USTRING("full"));
    }
    bool fromString(const TChar* text, ParamValue& value) const override
    {
        if (!StringListParameter::fromString(text, value))
            return false;
        value = std::max(0.0, value - 0.5);
        return true;
    }
};

class TestController : public EditController
{
public:
    static FUnknown* create(void*) { return static_cast<IEditController*>(new TestController()); }

    tresult PLUGIN_API initialize(FUnknown* context) override
    {
        const tresult result = EditController::initialize(context);
        parameters.addParameter(new Level());
        parameters.addParameter(new Spread());
        parameters.addParameter(USTRING("Dust"), nullptr, 0, 0.0, ParameterInfo::kCanAutomate, DUST);
        parameters.addParameter(USTRING("Heard"), nullptr, 0, 0.0, ParameterInfo::kIsReadOnly, HEARD);
        return result;
    }

    tresult PLUGIN_API setComponentState(IBStream* stream) override
    {
        IBStreamer streamer(stream, kLittleEndian);
        double values[3];
        if (!streamer.readDoubleArray(values, 3))
            return kResultFalse;
        for (ParamID id = LEVEL; id <= DUST; ++id)
            setParamNormalized(id, values[id]);
        return kResultOk;
    }
};

class Factory : public IPluginFactory2
{
public:
    tresult PLUGIN_API queryInterface(const TUID iid, void** object) override
    {
        const bool known = FUnknownPrivate::iidEqual(iid, IPluginFactory2::iid)
            || FUnknownPrivate::iidEqual(iid, IPluginFactory::iid) || FUnknownPrivate::iidEqual(iid, FUnknown::iid);
        *object = known ? this : nullptr;
        return known ? kResultOk : kNoInterface;
    }
    uint32 PLUGIN_API addRef() override { return 1; }
    uint32 PLUGIN_API release() override { return 1; }

    tresult PLUGIN_API getFactoryInfo(PFactoryInfo* info) override
    {
        *info = PFactoryInfo("gbsep", "", "", PFactoryInfo::kUnicode);
        return kResultOk;
    }
    int32 PLUGIN_API countClasses() override { return 2; }
    tresult PLUGIN_API getClassInfo(int32 index, PClassInfo* info) override
    {
        PClassInfo2 whole;
        if (getClassInfo2(index, &whole) != kResultOk)
            return kInvalidArgument;
        *info = PClassInfo(whole.cid, whole.cardinality, whole.category, whole.name);
        return kResultOk;
    }
    tresult PLUGIN_API getClassInfo2(int32 index, PClassInfo2* info) override
    {
        TUID id;
        (index == 0 ? COMPONENT_ID : CONTROLLER_ID).toTUID(id);
        *info = PClassInfo2(id, PClassInfo::kManyInstances, index == 0 ? kVstAudioEffectClass : kVstComponentControllerClass,
            "gbsep SDK test", 0, index == 0 ? "Fx|Spatial" : "", "gbsep", "2.0.1", kVstVersionString);
        return kResultOk;
    }
    tresult PLUGIN_API createInstance(FIDString class_id, FIDString iid, void** object) override
    {
        FUnknown* made = nullptr;
        if (FUnknownPrivate::iidEqual(class_id, COMPONENT_ID))
            made = TestComponent::create(nullptr);
        else if (FUnknownPrivate::iidEqual(class_id, CONTROLLER_ID))
            made = TestController::create(nullptr);
        if (!made)
            return kNoInterface;
        const tresult result = made->queryInterface(iid, object);
        made->release();
        return result;
    }
};

extern "C" {
__attribute__((visibility("default"))) IPluginFactory* GetPluginFactory()
{
    static Factory factory;
    return &factory;
}
__attribute__((visibility("default"))) bool ModuleEntry(void*) { return true; }
__attribute__((visibility("default"))) bool ModuleExit() { return true; }
}
