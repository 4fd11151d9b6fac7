#!/usr/bin/env bash
# Asks for a Cloud TPU VM (one host, or every host of a pod slice), sets it up, and starts a script on it.
#
#   scripts/tpu.sh create TPU_NAME ZONE TYPE [--spot]      # queued: e.g. v5litepod-4; returns when it is there
#   scripts/tpu.sh setup  TPU_NAME ZONE
#   scripts/tpu.sh run    TPU_NAME ZONE scripts/analyze.py cka --model vit_b32 --data imagenet2012:validation --out gs://BUCKET/results
#   scripts/tpu.sh delete TPU_NAME ZONE
#   scripts/tpu.sh here   scripts/analyze.py ...           # on the TPU VM itself
#   scripts/tpu.sh --dry-run COMMAND ...                   # prints what it would do
#
# A spot machine may be taken away at any time and is not given back: delete, create, setup and the same run again go
# on where it was, from the totals that wait beside the table in gs://.
# tensorflow-tpu 2.19.1 is the last TensorFlow that Keras names as supporting TPUs; it wants numpy below 2.2.
# On a pod slice (several hosts) the first host drives the TPU runtimes of all of them, found by the slice's name.
set -euo pipefail

usage() { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }

# the images without a TensorFlow of their own: `setup` brings one
runtime_of() {
  case "$1" in
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) echo tpu-ubuntu2204-base ;;
  esac
}

dry=
if [ "${1:-}" = --dry-run ]; then
  dry=yes
  shift
fi

# what a command does, or only its words
do_() {
  if [ -n "$dry" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

install='
set -e
python3 -c "import ensurepip" 2>/dev/null || { sudo apt-get update -q && sudo apt-get install -y -q python3-venv; }
python3 -m venv ~/tf_vitcnn/.venv
~/tf_vitcnn/.venv/bin/pip install --quiet "tensorflow-tpu==2.19.1" "keras>=3.10" "numpy>=2.0,<2.2"
# tensorflow-tpu takes the place of tensorflow: install the rest without it
~/tf_vitcnn/.venv/bin/pip install --quiet scipy scikit-learn tensorflow-datasets importlib_resources "tensorflow-metadata<1.18" "pandas>=2.2" \
  "altair>=5.5" "vl-convert-python>=1.6" tqdm "etils[epath]" gcsfs safetensors huggingface_hub filelock psutil jinja2
~/tf_vitcnn/.venv/bin/pip install --quiet --no-deps --editable ~/tf_vitcnn
~/tf_vitcnn/.venv/bin/python -c "import tensorflow as tf; print(tf.__version__, tf.config.list_physical_devices())"
'

# shell-quotes every argument, so that globs and brackets reach the script as they were typed
quoted() { printf '%q ' "$@"; }

case "${1:-}" in
  create)
    [ $# -eq 4 ] || [ "$#:${5:-}" = "5:--spot" ] || usage
    # the request and its machine bear one name
    do_ gcloud compute tpus queued-resources create "$2" --node-id="$2" --zone="$3" --accelerator-type="$4" \
      --runtime-version="$(runtime_of "$4")" ${5:+"$5"}
    [ -n "$dry" ] && exit
    while :; do
      state=$(gcloud compute tpus queued-resources describe "$2" --zone="$3" --format='value(state.state)')
      case "$state" in
        ACTIVE) break ;;
        FAILED | SUSPENDED | SUSPENDING) echo "$2: the request is $state: delete it and create it anew" >&2; exit 1 ;;
      esac
      sleep 30
    done
    ;;
  delete)
    [ $# -eq 3 ] || usage
    do_ gcloud compute tpus queued-resources delete "$2" --zone="$3" --force --quiet
    ;;
  setup)
    [ $# -eq 3 ] || usage
    root=$(cd "$(dirname "$0")/.." && pwd)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    do_ git -C "$root" archive --format=tar.gz --output="$archive" HEAD
    do_ gcloud compute tpus tpu-vm scp "$archive" "$2:tf_vitcnn.tar.gz" --zone="$3" --worker=all
    do_ gcloud compute tpus tpu-vm ssh "$2" --zone="$3" --worker=all \
      --command="mkdir -p ~/tf_vitcnn && tar -xzf ~/tf_vitcnn.tar.gz -C ~/tf_vitcnn && $install"
    ;;
  run)
    [ $# -ge 4 ] || usage
    name=$2 zone=$3
    shift 3
    hosts=1
    [ -n "$dry" ] || hosts=$(gcloud compute tpus tpu-vm describe "$name" --zone="$zone" --format='value(networkEndpoints[].ipAddress)' |
      tr ';,' '\n' | grep -c .)
    if [ "$hosts" -gt 1 ]; then
      where="TPU_NAME=$name TPU_LOAD_LIBRARY=0" strategy="tpu:$name"
    else
      where="TPU_LOAD_LIBRARY=1" strategy=tpu
    fi
    do_ gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=0 \
      --command="cd ~/tf_vitcnn && $where .venv/bin/python $(quoted "$@") --strategy $strategy"
    ;;
  here)
    [ $# -ge 2 ] || usage
    shift
    do_ exec "$(dirname "$0")/../.venv/bin/python" "$@" --strategy tpu
    ;;
  *) usage ;;
esac
