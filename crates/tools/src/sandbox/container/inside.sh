# Runs one command line inside of a container, and ends what is left of it: by itself, or when its standard input is closed.
#
# $1: the mark that its processes carry; the rest: names of variables, whose values are STAKPAK_VALUE_1 and so on;
# STAKPAK_VALUE_0 is the command line. Standard output is the command's; standard error tells how it went.
mark=$1
shift
shell=$(command -v bash || command -v sh)
apart=$(command -v setsid)
exec 4<&0 </dev/null
echo "$mark started" >&2

# Not every grep looks behind a NUL.
if printf 'a\000b\000' | grep -qzxF b 2>/dev/null; then
    marked() {
        grep -lszxF "STAKPAK_EXEC=$mark" /proc/[0-9]*/environ
    }
else
    marked() {
        for of in /proc/[0-9]*/environ; do
            { tr '\000' '\n' <"$of" | grep -qxF "STAKPAK_EXEC=$mark" && echo "$of"; } 2>/dev/null
        done
    }
fi

pause() {
    sleep 0.05 2>/dev/null || sleep 1
}

# Until nothing is left, so many pauses at most.
await() {
    tries=$1
    while [ "$tries" -gt 0 ] && [ -n "$(marked)" ]; do
        pause
        tries=$((tries - 1))
    done
}

signal() {
    kill -s "$1" -- "-$job" 2>/dev/null
    # It may not have come to its group and its mark yet.
    [ -z "$stopped" ] || kill -s "$1" "$job" 2>/dev/null
    for of in $(marked); do
        pid=${of#/proc/}
        kill -s "$1" "${pid%/environ}" 2>/dev/null
    done
}

(
    line=$STAKPAK_VALUE_0
    unset STAKPAK_VALUE_0
    number=0
    for name; do
        number=$((number + 1))
        eval "export $name=\"\$STAKPAK_VALUE_$number\""
        unset "STAKPAK_VALUE_$number"
    done
    export STAKPAK_EXEC="$mark"
    exec 4<&-
    exec $apart "$shell" -c "$line"
) 2>&1 &
job=$!

stopped=
trap 'stopped=yes' TERM
(
    trap - TERM
    read -r _ <&4
    kill -s TERM $$
) >/dev/null 2>&1 &
lifeline=$!

[ -n "$stopped" ] || wait "$job"
code=$?
if [ -z "$stopped" ]; then
    kill -s KILL "$lifeline" 2>/dev/null
    await 10
fi

for of in $(marked); do
    pid=${of#/proc/}
    pid=${pid%/environ}
    echo "$mark ended $pid $(tr '\000\n' '  ' 2>/dev/null <"/proc/$pid/cmdline")" >&2
done
if [ -n "$stopped" ] || [ -n "$(marked)" ]; then
    signal TERM
    await 30
    signal KILL
    await 4
fi
[ -n "$(marked)" ] || echo "$mark exit $code" >&2
exit "$code"
