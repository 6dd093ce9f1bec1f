#!/bin/sh
# Builds the test plug-in: build.sh FOLDER makes FOLDER/gbsep test.vst3. Needs g++ and Debian's dpf-source.
set -eu
here=$(dirname "$0")
dpf=${DPF:-/usr/share/dpf}
binary="$1/gbsep test.vst3/Contents/$(uname -m)-linux"
mkdir -p "$binary"
g++ -std=c++17 -O1 -shared -fPIC -fvisibility=hidden -w -DDISTRHO_PLUGIN_TARGET_VST3 \
    -I"$here" -I"$dpf/distrho" "$here/TestPlugin.cpp" "$dpf/distrho/DistrhoPluginMain.cpp" \
    -Wl,--version-script="$dpf/utils/symbols/vst3.version" -ldl -o "$binary/gbsep test.so"
