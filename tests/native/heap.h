/* Has the header under test take its mappings from malloc, whose edges AddressSanitizer guards.
 * To be included before it. */
#ifndef HEAP_H
#define HEAP_H

#include <stdlib.h>
#include <sys/mman.h>

#define mmap(address, size, protection, flags, fd, offset) calloc(1, size)
#define munmap(memory, size) free(memory)

#endif
