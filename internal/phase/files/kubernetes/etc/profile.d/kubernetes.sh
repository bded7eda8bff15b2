# For people at a prompt: the cluster's admin access where it is readable, and k.
if [ -n "$BASH_VERSION" ] && [ -n "$PS1" ]; then
	for f in /etc/kubernetes/super-admin.conf /etc/kubernetes/admin.conf; do
		if [ -r "$f" ]; then
			export KUBECONFIG="$f"
			break
		fi
	done
	unset f
	alias k=kubectl
	if [ -r /usr/share/bash-completion/completions/kubectl ] && type _init_completion >/dev/null 2>&1; then
		. /usr/share/bash-completion/completions/kubectl
		complete -o default -F __start_kubectl k
	fi
fi
