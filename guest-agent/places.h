/*
 * Where things are in the agent's own file tree, which is the initramfs. Containers never see it.
 */
#pragma once

#define PLACE_PROC "/proc"
#define PLACE_CGROUP "/cgroup"
#define PLACE_EXPORTS "/fs"
#define PLACE_NULL "/dev/null"
#define PLACE_DISKS "/disks"
