#!/bin/sh
# Keeps the dev server fresh, it thinks: every PERIOD seconds it starts `npm run dev:fresh`, whose first act is
# to kill the dev server that was running. What people then see is a Vite that "keeps dying on its own".
#
#   keepalive-dev.sh PORT ROUNDS PERIOD
port=$1
rounds=$2
period=$3

while [ "$rounds" -gt 0 ]; do
    npm run dev:fresh -- --port "$port" --strictPort --host 127.0.0.1 &
    sleep "$period"
    rounds=$((rounds - 1))
done
