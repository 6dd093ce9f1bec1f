#!/bin/sh
# Builds the JUCE test plug-in: build.sh FOLDER makes FOLDER/gbsep JUCE test.vst3 (two minutes on two cores). Needs cmake,
# g++ and Debian's juce-tools and juce-modules-source.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cmake -S "$here" -B "$1/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS_RELEASE="-O1 -w" >/dev/null
cmake --build "$1/build" --parallel 2 >/dev/null
cp -r "$1/build/gbsep_juce_test_artefacts/Release/VST3/gbsep JUCE test.vst3" "$1/"
