#!/usr/bin/env bash
# Sets a Cloud TPU VM up (one host, or every host of a pod slice) and starts a script on it with the TPU strategy.
#
#   scripts/tpu.sh setup  TPU_NAME ZONE
#   scripts/tpu.sh run    TPU_NAME ZONE scripts/analyze.py cka --model vit_b32 --data imagenet2012:validation --out gs://BUCKET/results
#   scripts/tpu.sh here   scripts/analyze.py ...          # on the TPU VM itself
#
# tensorflow-tpu 2.19.1 is the last TensorFlow that Keras names as supporting TPUs; it wants numpy below 2.2.
# On a pod slice (several hosts) the first host drives the TPU runtimes of all of them, found by the slice's name.
set -euo pipefail

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }

install='
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
  setup)
    [ $# -eq 3 ] || usage
    root=$(cd "$(dirname "$0")/.." && pwd)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    git -C "$root" archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$2:tf_vitcnn.tar.gz" --zone="$3" --worker=all
    gcloud compute tpus tpu-vm ssh "$2" --zone="$3" --worker=all \
      --command="mkdir -p ~/tf_vitcnn && tar -xzf ~/tf_vitcnn.tar.gz -C ~/tf_vitcnn && $install"
    ;;
  run)
    [ $# -ge 4 ] || usage
    name=$2 zone=$3
    shift 3
    hosts=$(gcloud compute tpus tpu-vm describe "$name" --zone="$zone" --format='value(networkEndpoints[].ipAddress)' |
      tr ';,' '\n' | grep -c .)
    if [ "$hosts" -gt 1 ]; then
      where="TPU_NAME=$name TPU_LOAD_LIBRARY=0" strategy="tpu:$name"
    else
      where="TPU_LOAD_LIBRARY=1" strategy=tpu
    fi
    gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=0 \
      --command="cd ~/tf_vitcnn && $where .venv/bin/python $(quoted "$@") --strategy $strategy"
    ;;
  here)
    [ $# -ge 2 ] || usage
    shift
    exec "$(dirname "$0")/../.venv/bin/python" "$@" --strategy tpu
    ;;
  *) usage ;;
esac
