/* The kernel loader on the fuzzer's file. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/elf.h"

#define MEMORY (4u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct guest_memory *memory = guest_memory_new(MEMORY, NULL);
	struct elf_image image;

	if (fd < 0)
		fd = memfd_create("kernel", MFD_CLOEXEC);
	if (ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size)
		elf_load(memory, fd, 1u << 20, MEMORY, &image, NULL);
	guest_memory_free(memory);
	return 0;
}
