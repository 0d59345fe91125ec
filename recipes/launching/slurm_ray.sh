# Ray's head runs here, on the job's first node, where Slurm runs this script; one more Ray process on each other node.
bring_up() {
  mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
  ip=$(python -c 'import ray; print(ray.util.get_node_ip_address())')
  port=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
  # A token of this job's own: whoever reaches a Ray cluster can run code there. Without this, the head may ask for one that the others lack.
  export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
  RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
  ray start --head --block --node-ip-address="$ip" --port="$port" --include-dashboard=false "${ray_options[@]}" &
  ray_head=$!
  trap 'kill "$ray_head" 2>/dev/null || true' EXIT
  until (exec 3<>"/dev/tcp/$ip/$port") 2>/dev/null; do
    kill -0 "$ray_head" || { echo "Ray's head did not start on ${nodes[0]}; its own words are above" >&2; exit 1; }
    sleep 1
  done
  export RAY_ADDRESS=$ip:$port
  others=$((${#nodes[@]} - 1))
  if [ "$others" -gt 0 ]; then
    srun --overlap --nodes="$others" --ntasks="$others" --ntasks-per-node=1 --exclude="${nodes[0]}" \
      ray start --block --address="$RAY_ADDRESS" "${ray_options[@]}" &
  fi
}
