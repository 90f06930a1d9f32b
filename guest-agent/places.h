/*
 * Where things are in the agent's own file tree, which is the initramfs. Containers never see it.
 */
#pragma once

#define PLACE_PROC "/proc"
#define PLACE_CGROUP "/cgroup"
#define PLACE_EXPORTS "/fs"
#define PLACE_SYS "/sys"	 /* mounted when a container with a user namespace needs it */
#define PLACE_DEVICES "/devices" /* and a number: nodes for a container with a user namespace */
#define PLACE_NULL "/dev/null"
#define PLACE_DISKS "/disks"
#define PLACE_SOCKETS "/sockets"
