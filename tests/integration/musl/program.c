/* Shows that a container without glibc works: built against musl and linked dynamically, so that its loader comes from
 * the container's root file system. Prints what it was given and ends with the status that it is asked for; with
 * "wait", when it is killed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *answer(void *argument)
{
	*(int *)argument = 42;
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	int value = 0;
	char cwd[256];

	if (pthread_create(&thread, NULL, answer, &value) != 0 || pthread_join(thread, NULL) != 0 || value != 42) {
		fprintf(stderr, "no thread\n");
		return 99;
	}
	if (!getcwd(cwd, sizeof(cwd)))
		return 98;
	printf("musl pid %d uid %d cwd %s path %s\n", (int)getpid(), (int)getuid(), cwd, getenv("PATH"));
	for (int i = 1; i < argc; i++)
		printf("argument %d <%s>\n", i, argv[i]);
	fflush(stdout);
	while (argc > 1 && strcmp(argv[1], "wait") == 0)
		pause();
	return argc > 1 ? atoi(argv[1]) : 0;
}
