#!/usr/bin/env bash
# Asks about a text and gives the right label back, with curl alone:  ./ask.sh "my card was stolen" lost_card
# The text is put into JSON as it is: it may hold no quote and no backslash.
set -euo pipefail
http="${PERENNIAL_HTTP:-http://127.0.0.1:8000}" api="${PERENNIAL_API:-http://127.0.0.1:8080}"
model="${PERENNIAL_MODEL:-intent}"

answer="$(curl --silent --show-error --fail-with-body --max-time 30 --retry 3 "$http/v2/models/$model/infer" --data '{
  "inputs": [{"name": "TEXT", "shape": [1, 1], "datatype": "BYTES", "data": ["'"$1"'"]}],
  "outputs": [{"name": "LABEL"}, {"name": "PREDICTION_ID"}]}')"
echo "$answer"
prediction_id="$(grep --only-matching --extended-regexp '[0-9a-f]{32}' <<<"$answer")"

# a token, where the control API asks for one:  --header "Authorization: Bearer $PERENNIAL_TOKEN"
curl --silent --show-error --fail-with-body --max-time 30 --retry 3 "$api/v1/feedback" \
  --header "Content-Type: application/json" \
  --data '{"model": "'"$model"'", "labels": [{"prediction_id": "'"$prediction_id"'", "label": "'"$2"'"}]}'
echo
