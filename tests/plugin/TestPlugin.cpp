// A stereo gain with 256 frames of latency (and as many more as "Lookahead" says), a state, and faults on demand.
// A "Pad" other than 0 dB sets the gain to itself.
//
// What goes wrong is in the name of the file: `<where>-<what>.so` (any other name works without a fault).
//
//     library-...    when the library is loaded
//     load-...       when the plug-in is made
//     parameter-...  when "Armed" is set to 1
//     state-...      when a state is restored that holds the mark "trip"
//     process-...    in every block, once "Armed" is 1
//
// The faults are those of `fail` below, and process-nan. process-random adds noise that no two runs share, armed or not.

#include "DistrhoPlugin.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr uint32_t LATENCY_FRAMES = 256;
constexpr uint32_t MAX_LOOKAHEAD_FRAMES = 1000;

std::string file_stem()
{
    static const char marker = 0;
    Dl_info info;
    if (dladdr(&marker, &info) == 0)
        return "";
    const std::string path = info.dli_fname;
    const std::string name = path.substr(path.rfind('/') + 1);
    return name.substr(0, name.rfind('.'));
}

// What is to go wrong at `where`, or an empty text.
std::string fault_at(const std::string& where)
{
    static const std::string stem = file_stem();
    return stem.compare(0, where.size() + 1, where + "-") == 0 ? stem.substr(where.size() + 1) : "";
}

void fail(const std::string& what)
{
    if (what == "crash")
        *static_cast<volatile int*>(nullptr) = 1;
    else if (what == "abort")
        std::abort();
    else if (what == "hang")
        for (;;)
            pause();
    else if (what == "spin")
        for (volatile unsigned turns = 0;; ++turns) {}
    else if (what == "exit")
        std::exit(0);
    else if (what == "throw")
        throw std::runtime_error("thrown on purpose");
    else if (what == "allocate")
        for (;;)
            std::memset(std::malloc(1 << 28), 1, 1 << 28);
    else if (what == "orphan") {
        // A child that outlives the plug-in, holding every open file.
        if (fork() == 0)
            for (;;)
                pause();
        std::abort();
    } else if (what == "complain") {
        std::fprintf(stderr, "the licence server is away\n");
        std::_Exit(3);
    } else if (what == "litter") {
        // A temporary file that is never removed.
        char name[4096];
        std::snprintf(name, sizeof name, "%s/gbsep-litter-XXXXXX", std::getenv("TMPDIR"));
        close(mkstemp(name));
        std::abort();
    } else if (what == "garbage") {
        for (int line = 0; line < 4096; ++line)
            std::printf("\x7f garbage that looks like {\"ok\": null} %d\n", line);
        std::fflush(stdout);
    } else if (what == "scribble") {
        const std::string junk(64, '\xee');
        for (int descriptor = 3; descriptor < 64; ++descriptor)
            (void) !write(descriptor, junk.data(), junk.size());
    }
}

const bool library_loaded = (fail(fault_at("library")), true);

}

START_NAMESPACE_DISTRHO

class TestPlugin : public Plugin
{
public:
    TestPlugin()
        : Plugin(PARAMETERS, 0, 1)
    {
        fail(fault_at("load"));
        activate();
    }

protected:
    enum { GAIN, ARMED, POLARITY, LOOKAHEAD, PAD, PARAMETERS };

    const char* getLabel() const override { return "gbsep test"; }
    const char* getMaker() const override { return "gbsep"; }
    const char* getLicense() const override { return "GPL-3.0-or-later"; }
    uint32_t getVersion() const override { return d_version(1, 2, 3); }
    int64_t getUniqueId() const override { return d_cconst('g', 'b', 's', 'T'); }

    void initParameter(uint32_t index, Parameter& parameter) override
    {
        parameter.hints = kParameterIsAutomatable;
        switch (index)
        {
        case GAIN:
            parameter.name = "Gain";
            parameter.symbol = "gain";
            parameter.unit = "dB";
            parameter.ranges = ParameterRanges(0.0f, -60.0f, 24.0f);
            break;
        case ARMED:
            parameter.name = "Armed";
            parameter.symbol = "armed";
            parameter.hints |= kParameterIsBoolean;
            parameter.ranges = ParameterRanges(0.0f, 0.0f, 1.0f);
            break;
        case POLARITY:
            parameter.name = "Polarity";
            parameter.symbol = "polarity";
            parameter.hints |= kParameterIsInteger;
            parameter.ranges = ParameterRanges(0.0f, 0.0f, 1.0f);
            parameter.enumValues.count = 2;
            parameter.enumValues.restrictedMode = true;
            parameter.enumValues.values = new ParameterEnumerationValue[2] {{0.0f, "normal"}, {1.0f, "inverted"}};
            break;
        case LOOKAHEAD:
            parameter.name = "Lookahead";
            parameter.symbol = "lookahead";
            parameter.hints |= kParameterIsInteger;
            parameter.ranges = ParameterRanges(0.0f, 0.0f, MAX_LOOKAHEAD_FRAMES);
            break;
        case PAD:
            parameter.name = "Pad";
            parameter.symbol = "pad";
            parameter.unit = "dB";
            parameter.ranges = ParameterRanges(0.0f, -20.0f, 0.0f);
            break;
        }
    }

    float getParameterValue(uint32_t index) const override { return values[index]; }

    void setParameterValue(uint32_t index, float value) override
    {
        values[index] = value;
        if (index == ARMED && value > 0.5f)
            fail(fault_at("parameter"));
        if (index == LOOKAHEAD)
            activate();
        if (index == PAD && value < 0.0f)
            values[GAIN] = value;
    }

    void initState(uint32_t, State& state) override
    {
        state.key = "mark";
        state.defaultValue = "calm";
    }

    String getState(const char*) const override { return String(mark.c_str()); }

    void setState(const char*, const char* value) override
    {
        mark = value;
        if (mark == "trip")
            fail(fault_at("state"));
    }

    void activate() override
    {
        const uint32_t latency_frames = LATENCY_FRAMES + static_cast<uint32_t>(values[LOOKAHEAD]);
        setLatency(latency_frames);
        for (auto& line : lines)
            line.assign(latency_frames, 0.0f);
        position = 0;
    }

    void run(const float** inputs, float** outputs, uint32_t frames) override
    {
        const std::string fault = fault_at("process");
        const bool armed = values[ARMED] > 0.5f;
        if (armed)
            fail(fault);
        const float polarity = values[POLARITY] > 0.5f ? -1.0f : 1.0f;
        const float gain = polarity * std::pow(10.0f, values[GAIN] / 20.0f);
        for (uint32_t frame = 0; frame < frames; ++frame)
        {
            for (int channel = 0; channel < 2; ++channel)
            {
                float& held = lines[channel][position];
                const float in = inputs[channel][frame];
                outputs[channel][frame] = gain * held;
                held = in;
            }
            position = (position + 1) % lines[0].size();
        }
        if (armed && fault == "nan")
            outputs[0][frames / 2] = std::numeric_limits<float>::quiet_NaN();
        if (fault == "random")
            outputs[0][frames / 2] += 1e-3f * static_cast<float>(std::random_device{}() % 1000u);
    }

private:
    float values[PARAMETERS] = {};
    std::string mark = "calm";
    std::vector<float> lines[2];
    size_t position = 0;
};

Plugin* createPlugin()
{
    return new TestPlugin();
}

END_NAMESPACE_DISTRHO
