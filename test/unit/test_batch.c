/*
 * test_batch.c
 *	  The arena: what it hands out is whole, counted and used again.
 */
#include "record/record.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define NBLOCKS 4000

typedef struct Block
{
	unsigned char *at;
	size_t size;
} Block;

/* Fill blocks of many sizes, then look whether each still holds its own. */
static bool
blocks_are_whole(PfaBatch *batch)
{
	static Block blocks[NBLOCKS];
	size_t total = 0;
	size_t at;
	int i;

	for (i = 0; i < NBLOCKS; i++)
	{
		size_t size = random_below(random_below(200) == 0 ? 400000 : 900);

		blocks[i].at = pfa_batch_alloc(batch, size);
		blocks[i].size = size;
		if (blocks[i].at == NULL || (uintptr_t) blocks[i].at % 8 != 0)
			return false;
		memset(blocks[i].at, i % 251, size);
		total += size;
	}
	for (i = 0; i < NBLOCKS; i++)
		for (at = 0; at < blocks[i].size; at++)
			if (blocks[i].at[at] != i % 251)
				return false;
	return pfa_batch_bytes(batch) >= total &&
		pfa_batch_bytes(batch) < total + 8 * NBLOCKS;
}

static void
test_arena(void)
{
	PfaBatch *batch = pfa_batch_create();
	bool ok = true;
	int i;

	check(pfa_batch_bytes(batch) == 0 && pfa_batch_nrecords(batch) == 0 &&
			  pfa_batch_nrejects(batch) == 0,
		  "a new batch is empty");
	pfa_batch_reset(batch);
	for (i = 0; i < 20 && ok; i++)
	{
		ok = blocks_are_whole(batch);
		pfa_batch_reset(batch);
		ok &= pfa_batch_bytes(batch) == 0;
	}
	check(ok, "blocks of any size, reset after reset");
	check(pfa_batch_alloc(batch, SIZE_MAX) == NULL &&
			  pfa_batch_alloc(batch, SIZE_MAX - 7) == NULL &&
			  pfa_batch_alloc(batch, SIZE_MAX / 2 + 1) == NULL &&
			  pfa_batch_bytes(batch) == 0,
		  "no block of a size there is not");
	check(pfa_batch_alloc(batch, 0) != NULL, "an empty one is not none");
	pfa_batch_free(batch);
	pfa_batch_free(NULL);
}

static void
test_memory(void)
{
	PfaBatch *batch = pfa_batch_create();
	size_t steady = 0;
	bool ok = true;
	int i;
	int k;

	for (i = 0; i < 50; i++)
	{
		struct mallinfo2 info;

		for (k = 0; k < 3000; k++)
			if (pfa_batch_alloc(batch, 1000) == NULL)
				ok = false;
		pfa_batch_alloc(batch, 5000000);
		pfa_batch_reset(batch);
		info = mallinfo2();
		if (i == 5)
			steady = info.uordblks + info.hblkhd;
		ok &= i < 5 || info.uordblks + info.hblkhd == steady;
	}
	check(ok, "a batch that is used again does not grow");
	check(steady < 17 * 1024 * 1024, "and keeps 16 MB of chunks at most");
	pfa_batch_free(batch);
}

static void
test_records(void)
{
	PfaBatch *batch = pfa_batch_create();
	bool ok = true;
	int i;

	for (i = 0; i < 100000 && ok; i++)
	{
		PfaRecord *record = pfa_batch_add(batch);

		ok = record != NULL;
		if (ok)
		{
			memset(record, 0, sizeof(*record));
			record->hash = (uint64_t) i;
			record->values = pfa_batch_alloc(batch, sizeof(PfaValue));
			record->values->mantissa = -i;
		}
	}
	ok = ok && pfa_batch_nrecords(batch) == 100000;
	for (i = 0; i < 100000 && ok; i++)
		ok = pfa_batch_records(batch)[i].hash == (uint64_t) i &&
			pfa_batch_records(batch)[i].values->mantissa == -i;
	check(ok, "a hundred thousand records, in their order");
	check(pfa_batch_bytes(batch) ==
			  100000 * (sizeof(PfaRecord) + sizeof(PfaValue)),
		  "are counted with what they hold");
	pfa_batch_free(batch);
}

static void
test_rejects(void)
{
	PfaBatch *batch = pfa_batch_create();
	char id[16];
	char reason[32];
	bool ok = true;
	int i;

	for (i = 0; i < 1000 && ok; i++)
	{
		int len = snprintf(id, sizeof(id), "P%dxyz", i) - 3;

		snprintf(reason, sizeof(reason), "field %d", i);
		ok = pfa_batch_reject(batch, id, (size_t) len, reason);
	}
	ok &= pfa_batch_reject(batch, "", 0, "nobody's") &&
		pfa_batch_nrejects(batch) == 1001;
	for (i = 0; i < 1000 && ok; i++)
	{
		snprintf(id, sizeof(id), "P%d", i);
		snprintf(reason, sizeof(reason), "field %d", i);
		ok = strcmp(pfa_batch_rejects(batch)[i].id, id) == 0 &&
			strcmp(pfa_batch_rejects(batch)[i].reason, reason) == 0;
	}
	check(ok && pfa_batch_rejects(batch)[1000].id[0] == '\0' &&
			  pfa_batch_nrecords(batch) == 0,
		  "rejects are copies, terminated, in their order");
	pfa_batch_reset(batch);
	check(pfa_batch_nrejects(batch) == 0 && pfa_batch_bytes(batch) == 0,
		  "and go with a reset");
	pfa_batch_free(batch);
}

int
main(void)
{
	test_memory();
	test_arena();
	test_records();
	test_rejects();
	return end_of_tests();
}
