#include "guest-agent/random.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DEVICE "/random"

static int device = -1;

int random_open(struct error *err)
{
	if (mknod(DEVICE, S_IFCHR | 0600, makedev(1, 8)) < 0 && errno != EEXIST)
		return error_set_errno(err, "make " DEVICE);
	device = open(DEVICE, O_RDWR | O_CLOEXEC);
	unlink(DEVICE);
	return device < 0 ? error_set_errno(err, "open " DEVICE) : 0;
}

int random_seed(const unsigned char seed[AGENT_SEED_SIZE], struct error *err)
{
	/* A struct rand_pool_info with its bytes. */
	struct {
		int entropy_count; /* bits */
		int size;
		unsigned char bytes[AGENT_SEED_SIZE];
	} pool = {.entropy_count = AGENT_SEED_SIZE * 8, .size = AGENT_SEED_SIZE};
	int result = 0;

	memcpy(pool.bytes, seed, AGENT_SEED_SIZE);
	if (ioctl(device, RNDADDENTROPY, &pool) < 0 || ioctl(device, RNDRESEEDCRNG) < 0)
		result = error_set_errno(err, "seed the random generator");
	explicit_bzero(&pool, sizeof(pool));
	return result;
}
