/*
 * batch.c
 *	  The memory of decoded records: an arena and two arrays.
 *
 * Values and texts are handed out from chunks by moving a pointer and are
 * freed all at once.  Chunks double in size up to a megabyte; the largest one
 * survives a reset, so that a sync that resets its batch every few hundred
 * records takes memory from malloc only at its beginning.  Records stand in an
 * array of their own, for the caller to sort.
 */
#include "record/record.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CHUNK		((size_t) 64 * 1024)
#define LARGEST_CHUNK	((size_t) 1024 * 1024)
#define ALIGN_UP(size)	(((size) + 7) & ~(size_t) 7)

/* The bytes follow the header. */
typedef struct Chunk
{
	struct Chunk *next;
	size_t		size;
} Chunk;

struct PfaBatch
{
	char	   *free;			/* within the first chunk of the list */
	size_t		nfree;
	Chunk	   *chunks;
	size_t		next_size;		/* of the next ordinary chunk */
	size_t		used;			/* bytes handed out */

	PfaRecord  *records;
	int			nrecords;
	int			records_room;
	PfaReject  *rejects;
	int			nrejects;
	int			rejects_room;
};

PfaBatch *
pfa_batch_create(void)
{
	PfaBatch   *batch = calloc(1, sizeof(PfaBatch));

	if (batch != NULL)
		batch->next_size = FIRST_CHUNK;
	return batch;
}

static void
free_chunks(Chunk *chunk)
{
	while (chunk != NULL)
	{
		Chunk	   *next = chunk->next;

		free(chunk);
		chunk = next;
	}
}

void
pfa_batch_free(PfaBatch *batch)
{
	if (batch == NULL)
		return;
	free_chunks(batch->chunks);
	free(batch->records);
	free(batch->rejects);
	free(batch);
}

/* Take the largest ordinary chunk out of the list. */
static Chunk *
take_largest(Chunk **list)
{
	Chunk	  **largest = NULL;
	Chunk	   *chunk;

	for (; *list != NULL; list = &(*list)->next)
	{
		if ((*list)->size <= LARGEST_CHUNK &&
			(largest == NULL || (*list)->size > (*largest)->size))
			largest = list;
	}
	if (largest == NULL)
		return NULL;
	chunk = *largest;
	*largest = chunk->next;
	chunk->next = NULL;
	return chunk;
}

void
pfa_batch_reset(PfaBatch *batch)
{
	Chunk	   *kept = take_largest(&batch->chunks);

	free_chunks(batch->chunks);
	batch->chunks = kept;
	batch->free = kept == NULL ? NULL : (char *) (kept + 1);
	batch->nfree = kept == NULL ? 0 : kept->size;
	batch->used = 0;
	batch->nrecords = 0;
	batch->nrejects = 0;
}

size_t
pfa_batch_bytes(const PfaBatch *batch)
{
	return batch->used + (size_t) batch->nrecords * sizeof(PfaRecord) +
		(size_t) batch->nrejects * sizeof(PfaReject);
}

int
pfa_batch_nrecords(const PfaBatch *batch)
{
	return batch->nrecords;
}

PfaRecord *
pfa_batch_records(PfaBatch *batch)
{
	return batch->records;
}

int
pfa_batch_nrejects(const PfaBatch *batch)
{
	return batch->nrejects;
}

const PfaReject *
pfa_batch_rejects(const PfaBatch *batch)
{
	return batch->rejects;
}

/*
 * Memory of a chunk of its own if it is large, else from a new chunk, of which
 * the rest serves the next calls.
 */
static void *
alloc_chunk(PfaBatch *batch, size_t size)
{
	bool		own = size > batch->next_size / 4;
	size_t		chunk_size = own ? size : batch->next_size;
	Chunk	   *chunk = malloc(sizeof(Chunk) + chunk_size);

	if (chunk == NULL)
		return NULL;
	chunk->size = chunk_size;
	batch->used += size;
	if (own && batch->chunks != NULL)
	{
		/* the current chunk stays the first one */
		chunk->next = batch->chunks->next;
		batch->chunks->next = chunk;
		return chunk + 1;
	}
	chunk->next = batch->chunks;
	batch->chunks = chunk;
	batch->free = (char *) (chunk + 1) + size;
	batch->nfree = chunk_size - size;
	if (!own && batch->next_size < LARGEST_CHUNK)
		batch->next_size *= 2;
	return chunk + 1;
}

void *
pfa_batch_alloc(PfaBatch *batch, size_t size)
{
	void	   *result = batch->free;

	if (size > SIZE_MAX / 2)
		return NULL;
	size = ALIGN_UP(size);
	if (size > batch->nfree || result == NULL)
		return alloc_chunk(batch, size);
	batch->free += size;
	batch->nfree -= size;
	batch->used += size;
	return result;
}

/* Room for one more element; the array as it is now, or NULL. */
static void *
grow(void *array, int n, int *room, size_t size)
{
	void	   *grown;
	int			wanted;

	if (n < *room)
		return array;
	if (*room > INT_MAX / 2)
		return NULL;
	wanted = *room == 0 ? 64 : 2 * *room;
	grown = realloc(array, (size_t) wanted * size);
	if (grown != NULL)
		*room = wanted;
	return grown;
}

PfaRecord *
pfa_batch_add(PfaBatch *batch)
{
	PfaRecord  *records = grow(batch->records, batch->nrecords,
							   &batch->records_room, sizeof(PfaRecord));

	if (records == NULL)
		return NULL;
	batch->records = records;
	return &records[batch->nrecords++];
}

/* A NUL-terminated copy. */
static char *
keep_text(PfaBatch *batch, const char *text, size_t len)
{
	char	   *copy = pfa_batch_alloc(batch, len + 1);

	if (copy != NULL)
	{
		memcpy(copy, text, len);
		copy[len] = '\0';
	}
	return copy;
}

bool
pfa_batch_reject(PfaBatch *batch, const char *id, size_t id_len,
				 const char *reason)
{
	PfaReject  *rejects = grow(batch->rejects, batch->nrejects,
							   &batch->rejects_room, sizeof(PfaReject));
	PfaReject	reject;

	if (rejects == NULL)
		return false;
	batch->rejects = rejects;
	reject.id = keep_text(batch, id, id_len);
	reject.reason = keep_text(batch, reason, strlen(reason));
	if (reject.id == NULL || reject.reason == NULL)
		return false;
	rejects[batch->nrejects++] = reject;
	return true;
}
