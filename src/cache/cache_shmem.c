/*
 * cache_shmem.c
 *	  Values kept in shared memory.
 *
 * pfa_vanguard.cache_size is cut into partitions, each with a lock of its own,
 * so that processes meet seldom, and each partition into blocks of one size.
 * A value is a chain of blocks; its first one begins with what describes it,
 * and the key.  So memory never fragments, at the price of half a block a value
 * on average, and a hit is a copy of some pieces under a shared lock.
 *
 * Room is made by the clock: a hand goes round the blocks, and what has not
 * been asked for since it came by last goes.  Values of states that are past
 * are never asked for, so they need no search.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "cache/backend.h"
#include "guc.h"

#define TRANCHE        "pfa_vanguard cache"
#define BLOCK_SIZE     1024
#define MAX_PARTITIONS 16
#define MIN_PARTITION  (1024 * 1024)

/* A larger value than this part of a partition would drive out the others. */
#define MAX_SHARE 4

/* Block numbers count from 1; 0 is none. */
typedef uint32 BlockNo;

typedef struct Block
{
	BlockNo next; /* of the value, or of the free ones */
	bool is_first;
	bool asked_for; /* of a first block: since the hand came by */
	char data[BLOCK_SIZE - 8];
} Block;

#define BLOCK_DATA ((int) sizeof(((Block *) NULL)->data))

/* Begins the first block of a value; key and value follow. */
typedef struct Entry
{
	PfaStamp stamp;
	uint64 hash;
	TimestampTz expires_at;
	Oid database;
	Oid scope;
	BlockNo next_in_bucket;
	int32 key_len;
	int32 value_len;
	int32 keyspace;
} Entry;

StaticAssertDecl(sizeof(Block) == BLOCK_SIZE, "blocks have no holes");
StaticAssertDecl(sizeof(Entry) + PFA_CACHE_MAX_KEY <= BLOCK_SIZE - 8,
				 "the longest key fits into the first block");

typedef struct Partition
{
	BlockNo free;
	BlockNo hand;
	uint32 nfree;
	uint32 nentries;
} Partition;

static struct
{
	int npartitions;
	uint32 nblocks;  /* of a partition */
	uint32 nbuckets; /* of a partition, a power of two */
	LWLockPadded *locks;
	Partition *partitions;
	BlockNo *buckets;
	Block *blocks;
} arena;

/* ---- set-up ---- */

static void
measure_arena(void)
{
	Size total = (Size) pfa_guc_cache_size * 1024;
	Size each;

	arena.npartitions = Min(Max(total / MIN_PARTITION, 1), MAX_PARTITIONS);
	each = total / arena.npartitions;
	arena.nblocks = each / (sizeof(Block) + sizeof(BlockNo));
	arena.nbuckets = 1;
	while (arena.nbuckets * 2 <= arena.nblocks)
		arena.nbuckets *= 2;
}

static Size
arena_size(void)
{
	return MAXALIGN(arena.npartitions * sizeof(Partition)) +
		MAXALIGN((Size) arena.npartitions * arena.nbuckets * sizeof(BlockNo)) +
		(Size) arena.npartitions * arena.nblocks * sizeof(Block);
}

void
pfa_cache_shared_memory_request(void)
{
	measure_arena();
	RequestAddinShmemSpace(arena_size());
	RequestNamedLWLockTranche(TRANCHE, MAX_PARTITIONS);
}

static Block *
block(int partition, BlockNo no)
{
	return &arena.blocks[(Size) partition * arena.nblocks + no - 1];
}

static Entry *
entry(Block *first)
{
	return (Entry *) first->data;
}

static void
init_partition(int i)
{
	Partition *partition = &arena.partitions[i];

	memset(partition, 0, sizeof(*partition));
	for (BlockNo no = arena.nblocks; no >= 1; no--)
	{
		Block *b = block(i, no);

		b->is_first = false;
		b->next = partition->free;
		partition->free = no;
	}
	partition->nfree = arena.nblocks;
	partition->hand = 1;
}

void
pfa_cache_shared_memory_startup(void)
{
	bool found;
	char *p;

	measure_arena();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	p = ShmemInitStruct("pfa_vanguard cached values", arena_size(), &found);
	arena.partitions = (Partition *) p;
	p += MAXALIGN(arena.npartitions * sizeof(Partition));
	arena.buckets = (BlockNo *) p;
	p += MAXALIGN((Size) arena.npartitions * arena.nbuckets * sizeof(BlockNo));
	arena.blocks = (Block *) p;
	arena.locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
	{
		memset(arena.buckets, 0,
			   (Size) arena.npartitions * arena.nbuckets * sizeof(BlockNo));
		for (int i = 0; i < arena.npartitions; i++)
			init_partition(i);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- finding ---- */

static uint64
hash_of(const PfaCacheItem *item)
{
	return hash_bytes_extended((const unsigned char *) item->key,
							   strlen(item->key),
							   ((uint64) MyDatabaseId << 32) | item->scope);
}

static int
partition_of(uint64 hash)
{
	return (int) ((hash >> 40) % arena.npartitions);
}

static BlockNo *
bucket_of(int partition, uint64 hash)
{
	return &arena.buckets[(Size) partition * arena.nbuckets +
						  (hash & (arena.nbuckets - 1))];
}

static bool
is_entry_of(const Entry *e, const PfaCacheItem *item, uint64 hash)
{
	return e->hash == hash && e->database == MyDatabaseId &&
		e->scope == item->scope && e->keyspace == (int32) item->keyspace &&
		e->key_len == (int32) strlen(item->key) &&
		memcmp((const char *) (e + 1), item->key, e->key_len) == 0;
}

/* With the partition's lock held; 0 where it is not there. */
static BlockNo
find(int partition, const PfaCacheItem *item, uint64 hash)
{
	BlockNo no = *bucket_of(partition, hash);

	while (no != 0)
	{
		Entry *e = entry(block(partition, no));

		if (is_entry_of(e, item, hash))
			return no;
		no = e->next_in_bucket;
	}
	return 0;
}

/* Copy the value's bytes out of, or into, its chain. */
static void
copy_value(int partition, BlockNo no, char *value, bool out)
{
	Block *b = block(partition, no);
	Entry *e = entry(b);
	int offset = sizeof(Entry) + e->key_len;
	int left = e->value_len;

	for (;;)
	{
		int n = Min(left, BLOCK_DATA - offset);

		if (out)
			memcpy(value, b->data + offset, n);
		else
			memcpy(b->data + offset, value, n);
		value += n;
		left -= n;
		if (left == 0)
			break;
		b = block(partition, b->next);
		offset = 0;
	}
}

static Jsonb *
get(const PfaCacheItem *item, const PfaStamp *stamp)
{
	uint64 hash = hash_of(item);
	int partition = partition_of(hash);
	LWLock *lock = &arena.locks[partition].lock;
	TimestampTz now = GetCurrentTimestamp();
	Jsonb *value = NULL;
	BlockNo no;

	LWLockAcquire(lock, LW_SHARED);
	no = find(partition, item, hash);
	if (no != 0)
	{
		Block *first = block(partition, no);

		if (pfa_stamp_equal(&entry(first)->stamp, stamp) &&
			now < entry(first)->expires_at)
		{
			value = palloc(entry(first)->value_len);
			copy_value(partition, no, (char *) value, true);
			/* A byte that several may set, all to the same. */
			if (!first->asked_for)
				first->asked_for = true;
		}
	}
	LWLockRelease(lock);
	return value;
}

/* ---- room ---- */

/* With the partition's lock held exclusively, as all below. */
static void
drop(int partition, BlockNo no)
{
	Partition *p = &arena.partitions[partition];
	Entry *e = entry(block(partition, no));
	BlockNo *link = bucket_of(partition, e->hash);

	while (*link != no)
		link = &entry(block(partition, *link))->next_in_bucket;
	*link = e->next_in_bucket;
	block(partition, no)->is_first = false;
	while (no != 0)
	{
		Block *b = block(partition, no);
		BlockNo next = b->next;

		b->next = p->free;
		p->free = no;
		p->nfree++;
		no = next;
	}
	p->nentries--;
}

/* The hand moves on by one block. */
static void
tick(int partition)
{
	Partition *p = &arena.partitions[partition];
	BlockNo no = p->hand;
	Block *b = block(partition, no);

	p->hand = no % arena.nblocks + 1;
	if (!b->is_first)
		return;
	if (b->asked_for)
	{
		b->asked_for = false;
		return;
	}
	pfa_cache_count_eviction((PfaKeyspace) entry(b)->keyspace);
	drop(partition, no);
}

static BlockNo
take_block(int partition)
{
	Partition *p = &arena.partitions[partition];
	BlockNo no = p->free;

	p->free = block(partition, no)->next;
	p->nfree--;
	return no;
}

/* A chain of n blocks that are free. */
static BlockNo
take_blocks(int partition, uint32 n)
{
	BlockNo first = take_block(partition);
	Block *last = block(partition, first);

	while (--n > 0)
	{
		last->next = take_block(partition);
		last = block(partition, last->next);
		last->is_first = false;
	}
	last->next = 0;
	return first;
}

/* ---- keeping ---- */

static bool
is_newer(const PfaStamp *a, const PfaStamp *b)
{
	for (int i = 0; i < PFA_STAMP_SUBJECTS; i++)
	{
		if (a->generations[i] > b->generations[i])
			return true;
	}
	return a->everything > b->everything;
}

static void
put(int partition, const PfaCacheItem *item, uint64 hash, const PfaStamp *stamp,
	Jsonb *value, uint32 nblocks)
{
	BlockNo no = take_blocks(partition, nblocks);
	Block *first = block(partition, no);
	Entry *e = entry(first);
	BlockNo *bucket = bucket_of(partition, hash);

	e->stamp = *stamp;
	e->hash = hash;
	e->expires_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												item->ttl_ms);
	e->database = MyDatabaseId;
	e->scope = item->scope;
	e->keyspace = (int32) item->keyspace;
	e->key_len = strlen(item->key);
	e->value_len = VARSIZE(value);
	memcpy(e + 1, item->key, e->key_len);
	copy_value(partition, no, (char *) value, false);
	e->next_in_bucket = *bucket;
	*bucket = no;
	first->asked_for = false;
	first->is_first = true;
	arena.partitions[partition].nentries++;
}

static bool
set(const PfaCacheItem *item, const PfaStamp *stamp, Jsonb *value)
{
	uint64 hash = hash_of(item);
	int partition = partition_of(hash);
	LWLock *lock = &arena.locks[partition].lock;
	Size size = sizeof(Entry) + strlen(item->key) + VARSIZE(value);
	uint32 nblocks = (size + BLOCK_DATA - 1) / BLOCK_DATA;
	BlockNo old;
	bool kept = false;

	if (size / BLOCK_DATA >= arena.nblocks / MAX_SHARE)
	{
		pfa_cache_count(PFA_CACHE_TOO_LARGE);
		return false;
	}
	LWLockAcquire(lock, LW_EXCLUSIVE);
	old = find(partition, item, hash);
	if (old == 0 || !is_newer(&entry(block(partition, old))->stamp, stamp))
	{
		if (old != 0)
			drop(partition, old);
		while (arena.partitions[partition].nfree < nblocks)
			tick(partition);
		put(partition, item, hash, stamp, value, nblocks);
		kept = true;
	}
	LWLockRelease(lock);
	return kept;
}

static int64
remove_from(int partition, const char *pattern)
{
	int64 n = 0;

	for (BlockNo no = 1; no <= arena.nblocks; no++)
	{
		Block *b = block(partition, no);
		Entry *e = entry(b);

		if (!b->is_first || e->database != MyDatabaseId ||
			!pfa_cache_glob(pattern, strlen(pattern), (const char *) (e + 1),
							e->key_len))
			continue;
		drop(partition, no);
		n++;
	}
	return n;
}

static int64
remove_values(const char *pattern)
{
	int64 n = 0;

	for (int i = 0; i < arena.npartitions; i++)
	{
		LWLockAcquire(&arena.locks[i].lock, LW_EXCLUSIVE);
		n += remove_from(i, pattern);
		LWLockRelease(&arena.locks[i].lock);
		CHECK_FOR_INTERRUPTS();
	}
	return n;
}

static bool
is_up(void)
{
	return true;
}

static void
measure(uint64 *bytes, uint64 *max_bytes, uint64 *entries)
{
	*bytes = 0;
	*entries = 0;
	*max_bytes = (uint64) arena.npartitions * arena.nblocks * BLOCK_SIZE;
	for (int i = 0; i < arena.npartitions; i++)
	{
		LWLockAcquire(&arena.locks[i].lock, LW_SHARED);
		*bytes += (uint64) (arena.nblocks - arena.partitions[i].nfree) *
			BLOCK_SIZE;
		*entries += arena.partitions[i].nentries;
		LWLockRelease(&arena.locks[i].lock);
	}
}

const PfaCacheBackend pfa_cache_shared_memory = {.name = "shared_memory",
												 .get = get,
												 .set = set,
												 .remove = remove_values,
												 .is_up = is_up,
												 .measure = measure};
