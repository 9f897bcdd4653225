#!/bin/bash
# Checks the scenario reference-3 with SPIN, and prints one line of JSON.
# usage: run.sh ipi|init-mm|ipi-on-table-free|defer equal|best|unreduced OUTDIR [MUTANT]
# MUTANT: ack-first, leave-first, join-late, gen-late. Products and pan's own output stay in OUTDIR.
set -eu

usage() { sed -n '3,4s/^# //p' "$0" >&2; exit 2; }
[ $# -ge 3 ] || usage
policy=$1 variant=$2 out=$3 mutant=${4:-}
source=$(cd "$(dirname "$0")" && pwd)

case $policy in
    ipi) define=-DIPI ;;
    init-mm) define=-DINIT_MM_POLICY ;;
    ipi-on-table-free) define=-DIPI_ON_TABLE_FREE ;;
    defer) define=-DDEFER ;;
    *) usage ;;
esac
case $mutant in
    '') ;;
    ack-first) define="$define -DACK_FIRST" ;;
    leave-first) define="$define -DLEAVE_FIRST" ;;
    join-late) define="$define -DJOIN_LATE" ;;
    gen-late) define="$define -DGEN_LATE" ;;
    *) usage ;;
esac
# The fastest of what was tried: COLLAPSE and the default compression cost time, and HC4 lost states.
cflags="-O3 -w -DSAFETY -DNOCOMP -DNOFAIR -DNOBOUNDCHECK"
case $variant in
    equal) model=equal generate='' hash=22 ;;
    best) model=best generate='' hash=14 ;;
    # No reduction by SPIN: for comparing the number of states with other checkers.
    unreduced) model=equal generate='-o2 -o3' hash=22 cflags="$cflags -DNOREDUCE" ;;
    *) usage ;;
esac

mkdir -p "$out"
cd "$out"
# shellcheck disable=SC2086
{
    spin $generate $define -a "$source/reference-3-$model.pml"
    gcc $cflags -o pan pan.c
} >&2

start=$EPOCHREALTIME
./pan -n -m10000 -w$hash >pan.out || true
end=$EPOCHREALTIME

awk -v variant="$variant" -v policy="$policy" -v mutant="$mutant" \
    -v microseconds=$((${end/[.,]/} - ${start/[.,]/})) '
    function quoted(text) { return text == "" ? "null" : "\"" text "\"" }
    /^pan:.*assertion violated  !\(table_use_after_free\)/ { property = "table-use-after-free" }
    /^pan:.*assertion violated  !\(stale_use\)/ { property = "stale-use" }
    /^pan:.*invalid end state/ { property = "deadlock" }
    /^pan:.*assertion violated/ && property == "" { property = "panic" }
    /too small|out of memory|aborting|Interrupted/ { incomplete = 1 }
    /depth reached/ {
        match($0, /depth reached [0-9]+/); depth = substr($0, RSTART + 14, RLENGTH - 14)
        match($0, /errors: [0-9]+/); errors = substr($0, RSTART + 8, RLENGTH - 8)
    }
    /memory usage \(Mbyte\)|total actual memory usage/ { bytes = $1 * 1048576 }
    /states, stored/ { states = $1 }
    /transitions \(=/ { transitions = $1 }
    END {
        verdict = property != "" ? "violation" : "safe"
        if (verdict == "safe" && (incomplete || states == "" || errors != 0)) verdict = "incomplete"
        printf "{\"peer\":\"spin\",\"variant\":\"%s\",\"policy\":\"%s\",\"mutant\":%s,", \
            variant, policy, quoted(mutant)
        printf "\"verdict\":\"%s\",\"property\":%s,\"states\":%d,\"transitions\":%d,", \
            verdict, quoted(property), states, transitions
        printf "\"depth\":%d,\"seconds\":%.6f,\"bytes_per_state\":%d}\n", \
            depth, microseconds / 1e6, bytes / (states > 0 ? states : 1)
    }' pan.out
