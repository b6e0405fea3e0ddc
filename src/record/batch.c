/*
 * batch.c
 *	  The memory of decoded records: an arena and two arrays.
 *
 * Values and texts are handed out from chunks by moving a pointer and are
 * freed all at once.  Ordinary chunks are of one size; freed ones are kept for
 * the next batch, up to a limit, as a page of records fills some and memory
 * fresh from the kernel costs more than the records that are written into it.
 * Records stand in an array of their own, for the caller to sort.
 */
#include "record/record.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES    ((size_t) 256 * 1024)
#define MAX_SPARE      64
#define ALIGN_UP(size) (((size) + 7) & ~(size_t) 7)

/* The bytes follow the header. */
typedef struct Chunk
{
	struct Chunk *next;
	size_t size;
} Chunk;

struct PfaBatch
{
	char *free; /* within the first chunk of the list */
	size_t nfree;
	Chunk *chunks;
	size_t used; /* bytes handed out */

	PfaRecord *records;
	int nrecords;
	int records_room;
	PfaReject *rejects;
	int nrejects;
	int rejects_room;
};

/* Ordinary chunks of the process that no batch uses. */
static struct
{
	Chunk *chunks;
	int nchunks;
} spare;

PfaBatch *
pfa_batch_create(void)
{
	return calloc(1, sizeof(PfaBatch));
}

static void
free_chunks(Chunk *chunk)
{
	while (chunk != NULL)
	{
		Chunk *next = chunk->next;

		if (chunk->size == CHUNK_BYTES && spare.nchunks < MAX_SPARE)
		{
			chunk->next = spare.chunks;
			spare.chunks = chunk;
			spare.nchunks++;
		}
		else
			free(chunk);
		chunk = next;
	}
}

static Chunk *
take_chunk(size_t size)
{
	Chunk *chunk = spare.chunks;

	if (size == CHUNK_BYTES && chunk != NULL)
	{
		spare.chunks = chunk->next;
		spare.nchunks--;
		return chunk;
	}
	chunk = malloc(sizeof(Chunk) + size);
	if (chunk != NULL)
		chunk->size = size;
	return chunk;
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

void
pfa_batch_reset(PfaBatch *batch)
{
	free_chunks(batch->chunks);
	batch->chunks = NULL;
	batch->free = NULL;
	batch->nfree = 0;
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
	bool own = size > CHUNK_BYTES / 4;
	size_t chunk_size = own ? size : CHUNK_BYTES;
	Chunk *chunk = take_chunk(chunk_size);

	if (chunk == NULL)
		return NULL;
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
	return chunk + 1;
}

void *
pfa_batch_alloc(PfaBatch *batch, size_t size)
{
	void *result = batch->free;

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
	void *grown;
	int wanted;

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
	PfaRecord *records = grow(batch->records, batch->nrecords,
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
	char *copy = pfa_batch_alloc(batch, len + 1);

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
	PfaReject *rejects = grow(batch->rejects, batch->nrejects,
							  &batch->rejects_room, sizeof(PfaReject));
	PfaReject reject;

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
