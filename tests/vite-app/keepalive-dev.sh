#!/bin/sh
# Keeps the dev server fresh, it thinks: whenever it is told to look, by a line on its standard input, it starts
# `npm run dev:fresh`, whose first act is to kill the dev server that was running. What people then see is a Vite that
# "keeps dying on its own".
#
#   keepalive-dev.sh PORT
port=$1

while read -r _; do
    npm run dev:fresh -- --port "$port" --strictPort --host 127.0.0.1 </dev/null &
done
