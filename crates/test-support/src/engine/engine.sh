#!/bin/sh
# Speaks the command line of docker and podman. A container is a directory and processes of this machine that carry its
# name; what is run in one is no child of the client that asked for it.
state=@STATE@
number=$(date +%s%N)-$$
printf '%s\0' "$@" >"$state/$number.new"
mv "$state/$number.new" "$state/calls/$number"

is() { test -e "$state/is/$1"; }
fail() { echo "Error: $1" >&2; exit 1; }

ends() {
    for of in $(grep -lsF "FAKE_CONTAINER=$1" /proc/[0-9]*/environ); do
        of=${of#/proc/}
        kill -s KILL "${of%/environ}" 2>/dev/null
    done
}

is hanging && exec sleep 600
is dead && fail "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"

action=$1
shift
case $action in
info)
    case $0 in
    */podman) echo "4.3.1|false|v2 [cpu memory pids]" ;;
    *) is unbounded && echo "28.2.2|[name=seccomp]|false true true" || echo "28.2.2|[name=seccomp]|true true true" ;;
    esac
    ;;
image)
    for image; do :; done
    is without_image && fail "No such image: $image"
    echo "sha256:0"
    ;;
run)
    is refusing && fail "OCI runtime create failed"
    labels=
    while [ $# -gt 0 ]; do
        case $1 in
        --name) name=$2 && shift ;;
        --label) labels="$labels$2
" && shift ;;
        esac
        shift
    done
    mkdir "$state/containers/$name" || fail "Conflict"
    printf '%s' "$labels" >"$state/containers/$name/labels"
    FAKE_CONTAINER=$name setsid sleep 2147483647 </dev/null >/dev/null 2>&1 &
    echo "$name"
    ;;
exec)
    names=
    workdir=/
    while :; do
        case $1 in
        --interactive) shift ;;
        --workdir) workdir=$2 && shift 2 ;;
        --env) names="$2 $names" && shift 2 ;;
        *) break ;;
        esac
    done
    name=$1
    shift
    test -d "$state/containers/$name" || fail "No such container: $name"
    for of in $names; do
        eval "value=\$$of"
        set -- "$of=$value" "$@"
    done
    set -- env -i PATH="$PATH" FAKE_CONTAINER="$name" "$@"
    io="$state/io/$number"
    mkdir "$io"
    mkfifo "$io/in" "$io/out" "$io/err"
    cd "$workdir" || fail "chdir to $workdir"
    exec 3<&0 </dev/null
    if is deaf; then
        setsid sh -c 'io=$1; shift; "$@" <>"$io/in"; echo $? >"$io/code"' sh "$io" "$@" >"$io/out" 2>"$io/err" 3<&- &
    else
        setsid sh -c 'io=$1; shift; "$@" <"$io/in"; echo $? >"$io/code"' sh "$io" "$@" >"$io/out" 2>"$io/err" 3<&- &
    fi
    cat <&3 >"$io/in" &
    input=$!
    cat "$io/out" &
    output=$!
    cat "$io/err" >&2 &
    wait "$output" $!
    kill "$input" 2>/dev/null
    exit "$(cat "$io/code")"
    ;;
ps)
    for of; do label=${of#label=}; done
    for of in "$state"/containers/*; do
        grep -qxF "$label" "$of/labels" 2>/dev/null && basename "$of"
    done
    exit 0
    ;;
rm)
    is clinging && fail "removal is already in progress"
    for name; do
        case $name in --*|0) continue ;; esac
        test -d "$state/containers/$name" || fail "No such container: $name"
        ends "$name"
        rm -r "$state/containers/$name"
    done
    ;;
*) fail "unknown command \"$action\"" ;;
esac
