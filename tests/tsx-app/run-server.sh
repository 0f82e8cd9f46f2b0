#!/bin/sh
# Keeps the server running, as a container's entry point does, and logs how it ended. The server's leak takes until
# START + MS, then until START + 2 * MS, and so on, in milliseconds.
#
#   run-server.sh START MS ROUNDS
start=$1 every=$2 rounds=$3
round=0
while [ "$round" -lt "$rounds" ]; do
    round=$((round + 1))
    npm exec --no -- tsx server.ts until $((start + round * every))
    echo "server exited with code $?"
done
