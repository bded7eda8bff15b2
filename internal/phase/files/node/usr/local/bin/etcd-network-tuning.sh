#!/bin/sh
# Puts etcd's traffic (client port 2379, peer port 2380) into the first band of
# a priority queue on the network device named in the first argument.
dev=$1

fail() {
	logger -t etcd-tuning -p user.emerg "$dev: $1"
	exit 1
}

[ -n "$dev" ] || fail "no device given"
tc qdisc replace dev "$dev" root handle 1: prio bands 3 || fail "cannot set the root queue"
prio=1
for port in 2380 2379; do
	for side in sport dport; do
		tc filter add dev "$dev" parent 1: protocol ip prio $prio u32 \
			match ip $side $port 0xffff flowid 1:1 || fail "cannot add the filter for $side $port"
	done
	prio=$((prio + 1))
done
logger -t etcd-tuning -p user.info "$dev: etcd's ports go first"
