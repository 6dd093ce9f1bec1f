// A mono or stereo gain made with JUCE, as most plug-ins that people own are: its state follows a parameter at once.
//
// "Gain" is skewed and in dB, with "-inf dB" at its end; "Trim" has steps of half a dB; "Mode" is a choice whose third
// entry mutes; "Invert" is a switch; "Tone" shows Hz up to 999 and kHz from there on, and changes nothing; "Lookahead"
// sets the latency; "Key" is how much of the side-chain bus is taken away from the output.

#include <juce_audio_processors/juce_audio_processors.h>

class TestProcessor : public juce::AudioProcessor
{
public:
    TestProcessor()
        : AudioProcessor(BusesProperties()
              .withInput("Input", juce::AudioChannelSet::stereo())
              .withOutput("Output", juce::AudioChannelSet::stereo())
              .withInput("Sidechain", juce::AudioChannelSet::mono(), false)),
          state(*this, nullptr, "state", layout())
    {
    }

    static juce::AudioProcessorValueTreeState::ParameterLayout layout()
    {
        using namespace juce;
        NormalisableRange<float> gain(-60.0f, 12.0f);
        gain.setSkewForCentre(-12.0f);
        NormalisableRange<float> tone(20.0f, 20000.0f);
        tone.setSkewForCentre(1000.0f);
        auto tone_text = [](float hz, int) {
            return hz < 1000.0f ? String(hz, 1) + " Hz" : String(hz / 1000.0f, 3) + " kHz";
        };
        auto tone_value = [](const String& text) {
            return text.getFloatValue() * (text.containsIgnoreCase("kHz") ? 1000.0f : 1.0f);
        };
        auto gain_text = [](float db, int) { return db <= -60.0f ? String("-inf") : String(db, 4); };
        return {
            std::make_unique<AudioParameterFloat>(ParameterID("gain", 1), "Gain", gain, 0.0f,
                AudioParameterFloatAttributes().withLabel("dB").withStringFromValueFunction(gain_text)),
            std::make_unique<AudioParameterFloat>(ParameterID("trim", 1), "Trim",
                NormalisableRange<float>(-6.0f, 6.0f, 0.5f), 0.0f, AudioParameterFloatAttributes().withLabel("dB")),
            std::make_unique<AudioParameterChoice>(ParameterID("mode", 1), "Mode", StringArray("Dry", "Half", "Mute"), 0),
            std::make_unique<AudioParameterBool>(ParameterID("invert", 1), "Invert", false),
            std::make_unique<AudioParameterFloat>(ParameterID("tone", 1), "Tone", tone, 1000.0f,
                AudioParameterFloatAttributes()
                    .withStringFromValueFunction(tone_text)
                    .withValueFromStringFunction(tone_value)),
            std::make_unique<AudioParameterInt>(ParameterID("lookahead", 1), "Lookahead", 0, 1000, 0),
            std::make_unique<AudioParameterFloat>(ParameterID("key", 1), "Key", 0.0f, 1.0f, 0.0f),
            std::make_unique<AudioParameterFloat>(ParameterID("same1", 1), "Reference", 0.0f, 1.0f, 0.0f),
            std::make_unique<AudioParameterFloat>(ParameterID("same2", 1), "Reference", 0.0f, 1.0f, 0.0f),
        };
    }

    bool isBusesLayoutSupported(const BusesLayout& buses) const override
    {
        const auto in = buses.getMainInputChannelSet(), out = buses.getMainOutputChannelSet();
        return in == out && (in == juce::AudioChannelSet::mono() || in == juce::AudioChannelSet::stereo());
    }

    void prepareToPlay(double, int) override
    {
        delay.setSize(2, 1001);
        delay.clear();
        place = 0;
        setLatencySamples(static_cast<int>(value("lookahead")));
    }

    void processBlock(juce::AudioBuffer<float>& buffer, juce::MidiBuffer&) override
    {
        const int lookahead = static_cast<int>(value("lookahead"));
        if (lookahead != getLatencySamples())
            setLatencySamples(lookahead);
        const float db = value("gain"), key = value("key");
        float gain = db <= -60.0f ? 0.0f : juce::Decibels::decibelsToGain(db) * juce::Decibels::decibelsToGain(value("trim"));
        gain *= value("mode") == 0.0f ? 1.0f : value("mode") == 1.0f ? 0.5f : 0.0f;
        gain *= value("invert") > 0.5f ? -1.0f : 1.0f;
        auto main = getBusBuffer(buffer, true, 0);
        auto side = getBusCount(true) > 1 && getBus(true, 1)->isEnabled() ? getBusBuffer(buffer, true, 1)
                                                                          : juce::AudioBuffer<float>();
        for (int frame = 0; frame < buffer.getNumSamples(); ++frame) {
            const float heard = side.getNumChannels() > 0 ? side.getSample(0, frame) : 0.0f;
            for (int channel = 0; channel < main.getNumChannels(); ++channel) {
                delay.setSample(channel, place, gain * main.getSample(channel, frame) - key * heard);
                main.setSample(channel, frame, delay.getSample(channel, (place + 1001 - lookahead) % 1001));
            }
            place = (place + 1) % 1001;
        }
    }

    void getStateInformation(juce::MemoryBlock& data) override
    {
        if (auto xml = state.copyState().createXml())
            copyXmlToBinary(*xml, data);
    }

    void setStateInformation(const void* data, int size) override
    {
        if (auto xml = getXmlFromBinary(data, size))
            state.replaceState(juce::ValueTree::fromXml(*xml));
    }

    const juce::String getName() const override { return "gbsep JUCE test"; }
    void releaseResources() override {}
    double getTailLengthSeconds() const override { return 0.0; }
    bool acceptsMidi() const override { return false; }
    bool producesMidi() const override { return false; }
    bool hasEditor() const override { return false; }
    juce::AudioProcessorEditor* createEditor() override { return nullptr; }
    int getNumPrograms() override { return 1; }
    int getCurrentProgram() override { return 0; }
    void setCurrentProgram(int) override {}
    const juce::String getProgramName(int) override { return {}; }
    void changeProgramName(int, const juce::String&) override {}

private:
    float value(const char* id) const { return state.getRawParameterValue(id)->load(); }

    juce::AudioProcessorValueTreeState state;
    juce::AudioBuffer<float> delay;
    int place = 0;
};

juce::AudioProcessor* JUCE_CALLTYPE createPluginFilter()
{
    return new TestProcessor();
}
