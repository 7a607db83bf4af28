// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * What becomes of cgroups, told as it happens. cgroup_mkdir() reaches its tracepoint before it activates
 * the directory, so no task can be in a cgroup whose making was not told. The paths are as seen from the
 * root of the hierarchy, whoever makes the directory; the kernel puts them together for its tracepoints.
 */
#include "cgroup.h"

static __always_inline int on_cgroup(const struct cgroup *cgroup, const char *path, __u16 op)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	struct cgroup_event *event;
	long size;
	void *ring;

	if ((__u32)BPF_CORE_READ(cgroup, root, hierarchy_id) != cgroup_hierarchy)
		return 0;
	if (op == CGROUP_RELEASED)
		bpf_map_delete_elem(&told_cgroups, &id);
	ring = ring_of_cpu();
	event = ring ? bpf_ringbuf_reserve(ring, sizeof(*event), 0) : NULL;
	if (!event) {
		if (ring)
			COUNT(drop_cgroup);
		return 0;
	}
	fill_header(&event->header, EVENT_CGROUP, sizeof(*event));
	event->id = id;
	event->op = op;
	event->pad = 0;
	size = bpf_probe_read_kernel_str(event->path, sizeof(event->path), path);
	event->size = size > 0 ? size - 1 : 0;
	COUNT(cgroups);
	/* A path that fills the kernel's buffer may have been cut: the first record from there has it walked
	 * to. */
	if (op == CGROUP_MADE && size > 1 && size < CGROUP_PATH)
		remember_told(id);
	/* Wakes a reader that sleeps until records come: cgroups may come and go with nothing recorded. */
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_made, struct cgroup *cgroup, const char *path)
{
	return on_cgroup(cgroup, path, CGROUP_MADE);
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_removed, struct cgroup *cgroup, const char *path)
{
	return on_cgroup(cgroup, path, CGROUP_REMOVED);
}

SEC("tp_btf/cgroup_rename")
int BPF_PROG(cgroup_renamed, struct cgroup *cgroup, const char *path)
{
	return on_cgroup(cgroup, path, CGROUP_RENAMED);
}

SEC("tp_btf/cgroup_release")
int BPF_PROG(cgroup_released, struct cgroup *cgroup, const char *path)
{
	return on_cgroup(cgroup, path, CGROUP_RELEASED);
}
