#!/bin/sh
# Somebody's session: puts its pid into a directory, and waits.
#
#   session.sh DIRECTORY
: >"$1/$$"
read -r _
