#!/bin/sh
# Builds the SDK test plug-in: build.sh FOLDER makes FOLDER/gbsep SDK test.vst3. Needs g++ and the VST3 SDK that Debian's
# juce-modules-source-data carries.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sdk=${VST3_SDK:-/usr/share/juce/modules/juce_audio_processors/format_types/VST3_SDK}
binary="$1/gbsep SDK test.vst3/Contents/$(uname -m)-linux"
mkdir -p "$binary"
cd "$sdk"
g++ -std=c++17 -O1 -shared -fPIC -fvisibility=hidden -w -DRELEASE=1 -I. "$here/SdkPlugin.cpp" \
    public.sdk/source/vst/vstbus.cpp public.sdk/source/vst/vstcomponent.cpp public.sdk/source/vst/vstcomponentbase.cpp \
    public.sdk/source/vst/vsteditcontroller.cpp public.sdk/source/vst/vstinitiids.cpp \
    public.sdk/source/vst/vstparameters.cpp public.sdk/source/common/pluginview.cpp base/source/baseiids.cpp base/source/fbuffer.cpp base/source/fdebug.cpp \
    base/source/fobject.cpp base/source/fstreamer.cpp base/source/fstring.cpp base/source/updatehandler.cpp \
    base/thread/source/flock.cpp pluginterfaces/base/conststringtable.cpp pluginterfaces/base/coreiids.cpp \
    pluginterfaces/base/funknown.cpp pluginterfaces/base/ustring.cpp -lpthread -Wl,--no-undefined -o "$binary/gbsep SDK test.so"
