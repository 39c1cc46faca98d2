#!/usr/bin/env bash
# What a GPU shows, within nine minutes of one: the tests marked gpu, then prefill, samples a second and decode steps at
# the sizes of LLaVA-1.5-7B in bfloat16. The JSON files go to the folder given (default benchmarks/results).
#
#     benchmarks/gpu.sh [FOLDER]            PYTHON, DEVICE and DIMS from the environment; a dry run: DEVICE=cpu DIMS=tiny
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-benchmarks/results} python=${PYTHON:-python3} device=${DEVICE:-cuda} dims=${DIMS:-llava-1.5-7b}
dtype=bfloat16 vision="576 2880" batch="1 8 32" sizes="16 64" samples=64 singly=4
[ "$device" = cpu ] && dtype=float32 vision=36 batch="1 2" sizes=2 samples=2 singly=1
mkdir -p "$out"
failed=0
measure() { # SECONDS BENCHMARK [ARGUMENT...]
    timeout "$1" "$python" -m "benchmarks.$2" --device "$device" --dims "$dims" --dtype "$dtype" --threads 8 \
        --out "$out/$2-$device-$dims.json" "${@:3}" || failed=1
}
timeout 100 "$python" -m pytest -q -n 4 -m gpu tests/decoder/test_gpu.py || failed=1
measure 150 prefill --vision $vision --batch $batch --mean-tokens 64 --unequal 1 --rounds 3
measure 150 throughput --samples $samples --few $samples --singly $singly --batch $sizes
measure 140 decode --vision ${vision#* } --batch 8 --arms fixed
exit $failed
