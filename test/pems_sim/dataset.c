/*
 * dataset.c
 *	  Organizations, their listings, and changes to them.
 *
 * Readers hold references, writers replace.  Blocks that a change does not
 * touch are shared between the old listing and the new one, with their text,
 * so that a change of one record in a million costs one block.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

#define BLOCK_ROWS 1000

SimDataset sim_data;

void
sim_data_init(uint64_t seed, int nbad)
{
	sim_data.seed = seed;
	sim_data.nbad = nbad;
	pthread_mutex_init(&sim_data.lock, NULL);
	/* generated records were all modified in 2025 */
	sim_data.clock = (int64_t) sim_days(2026, 1, 1) * 86400000;
}

/* Each write has a pfs_lastmodified of its own, later than all before. */
int64_t
sim_data_tick(void)
{
	struct timespec now;
	int64_t ms;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
	sim_data.clock = ms > sim_data.clock ? ms : sim_data.clock + 1;
	return sim_data.clock;
}

static SimBlock *
block_create(int nrows)
{
	SimBlock *block = sim_alloc(sizeof(SimBlock));

	block->refs = 1;
	block->nrows = nrows;
	block->records = sim_alloc(nrows * sizeof(SimRecord));
	block->modified = sim_alloc(nrows * sizeof(int64_t));
	pthread_mutex_init(&block->lock, NULL);
	return block;
}

static void
block_finish(SimBlock *block)
{
	int i;

	block->newest = INT64_MIN;
	for (i = 0; i < block->nrows; i++)
	{
		block->modified[i] = block->records[i].modified;
		if (block->modified[i] > block->newest)
			block->newest = block->modified[i];
	}
}

void
sim_block_release(SimBlock *block)
{
	if (atomic_fetch_sub(&block->refs, 1) > 1)
		return;
	sim_text_release(block->base);
	sim_text_release(block->patch);
	free(block->source);
	pthread_mutex_destroy(&block->lock);
	free(block->records);
	free(block->modified);
	free(block);
}

static SimListing *
listing_create(int maxblocks)
{
	SimListing *listing = sim_alloc(sizeof(SimListing));

	listing->refs = 1;
	listing->blocks = sim_alloc(maxblocks * sizeof(SimBlock *));
	listing->starts = sim_alloc((maxblocks + 1) * sizeof(int64_t));
	return listing;
}

static void
listing_add(SimListing *listing, SimBlock *block)
{
	listing->blocks[listing->nblocks++] = block;
	listing->nrows += block->nrows;
	listing->starts[listing->nblocks] = listing->nrows;
}

void
sim_listing_release(SimListing *listing)
{
	int i;

	if (listing == NULL || atomic_fetch_sub(&listing->refs, 1) > 1)
		return;
	for (i = 0; i < listing->nblocks; i++)
		sim_block_release(listing->blocks[i]);
	free(listing->blocks);
	free(listing->starts);
	free(listing);
}

SimListing *
sim_org_listing(SimOrg *org)
{
	SimListing *listing;

	pthread_mutex_lock(&org->lock);
	listing = org->listing;
	atomic_fetch_add(&listing->refs, 1);
	pthread_mutex_unlock(&org->lock);
	return listing;
}

static void
org_publish(SimOrg *org, SimListing *listing)
{
	SimListing *old;

	pthread_mutex_lock(&org->lock);
	old = org->listing;
	org->listing = listing;
	pthread_mutex_unlock(&org->lock);
	atomic_fetch_add(&sim_data.version, 1);
	sim_listing_release(old);
}

SimOrg *
sim_org_find(const char *name)
{
	int n = atomic_load(&sim_data.norgs);
	int i;

	for (i = 0; i < n; i++)
		if (strcmp(sim_data.orgs[i]->name, name) == 0)
			return sim_data.orgs[i];
	return NULL;
}

typedef struct FillJob
{
	SimOrg *org;
	SimListing *listing;
	atomic_int next;
} FillJob;

static void *
fill_blocks(void *arg)
{
	FillJob *job = arg;
	int b;

	while ((b = atomic_fetch_add(&job->next, 1)) < job->listing->nblocks)
	{
		SimBlock *block = job->listing->blocks[b];
		int i;

		for (i = 0; i < block->nrows; i++)
			sim_generate(&block->records[i], job->org,
						 (uint32_t) (job->listing->starts[b] + i + 1));
		block_finish(block);
	}
	return NULL;
}

/* NULL where there is no room for another organization. */
SimOrg *
sim_org_create(const char *name, int64_t nrows)
{
	SimOrg *org = sim_alloc(sizeof(SimOrg));
	FillJob job = {.org = org};
	pthread_t thread;
	int64_t row;

	org->name = strdup(name);
	org->id_width = nrows > 800000 ? 8 : 6;
	org->last_serial = (uint32_t) nrows;
	pthread_mutex_init(&org->lock, NULL);
	job.listing = listing_create((int) (nrows / BLOCK_ROWS + 1));
	for (row = 0; row < nrows; row += BLOCK_ROWS)
		listing_add(job.listing,
					block_create((int) (nrows - row < BLOCK_ROWS ?
											nrows - row :
											BLOCK_ROWS)));
	if (nrows > 10 * BLOCK_ROWS &&
		pthread_create(&thread, NULL, fill_blocks, &job) == 0)
	{
		fill_blocks(&job);
		pthread_join(thread, NULL);
	}
	else
		fill_blocks(&job);
	org->listing = job.listing;
	pthread_mutex_lock(&sim_data.lock);
	if (sim_data.norgs >= SIM_MAX_ORGS)
	{
		pthread_mutex_unlock(&sim_data.lock);
		return NULL;
	}
	sim_data.orgs[sim_data.norgs] = org;
	atomic_fetch_add(&sim_data.norgs, 1);
	pthread_mutex_unlock(&sim_data.lock);
	atomic_fetch_add(&sim_data.version, 1);
	return org;
}

SimBlock *
sim_listing_block(const SimListing *listing, int64_t row, int *index)
{
	int low = 0;
	int high = listing->nblocks;

	while (high - low > 1)
	{
		int middle = (low + high) / 2;

		if (listing->starts[middle] <= row)
			low = middle;
		else
			high = middle;
	}
	*index = (int) (row - listing->starts[low]);
	return listing->blocks[low];
}

const SimRecord *
sim_listing_record(const SimListing *listing, int64_t row)
{
	int index;
	SimBlock *block = sim_listing_block(listing, row, &index);

	return &block->records[index];
}

/* NULL where there is no such record. */
const SimRecord *
sim_listing_find(const SimListing *listing, const char *id)
{
	int64_t row = sim_listing_search(listing, id, false);
	const SimRecord *record;

	if (row >= listing->nrows)
		return NULL;
	record = sim_listing_record(listing, row);
	return strcmp(record->id, id) == 0 ? record : NULL;
}

/* Number of rows whose id is below `id`, or (after) not above it. */
int64_t
sim_listing_search(const SimListing *listing, const char *id, bool after)
{
	int64_t low = 0;
	int64_t high = listing->nrows;

	while (low < high)
	{
		int64_t middle = (low + high) / 2;
		int cmp = strcmp(sim_listing_record(listing, middle)->id, id);

		if (cmp < 0 || (after && cmp == 0))
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
compare_edits(const void *a, const void *b)
{
	return strcmp(((const SimEdit *) a)->record.id,
				  ((const SimEdit *) b)->record.id);
}

/*
 * One block and the edits that fall into it, as blocks of the new listing.
 * The new blocks keep the text of rows that did not change.
 */
static void
merge_block(SimOrg *org, SimListing *listing, SimBlock *old,
			const SimEdit *edits, int64_t nedits)
{
	int old_rows = old ? old->nrows : 0;
	SimRecord *merged = sim_alloc((old_rows + nedits) * sizeof(SimRecord));
	uint32_t *origin = sim_alloc((old_rows + nedits) * sizeof(uint32_t));
	int64_t n = 0;
	int64_t e = 0;
	int64_t from;
	int r = 0;

	while (r < old_rows || e < nedits)
	{
		int cmp = r == old_rows ? 1 :
			e == nedits         ? -1 :
								  strcmp(old->records[r].id, edits[e].record.id);

		if (cmp < 0)
		{
			origin[n] = (uint32_t) r;
			merged[n++] = old->records[r++];
		}
		else
		{
			origin[n] = SIM_PATCHED;
			if (!edits[e].remove)
				merged[n++] = edits[e].record;
			e++;
			if (cmp == 0)
				r++;
		}
	}
	for (from = 0; from < n; from += BLOCK_ROWS * 2)
	{
		int rows = (int) (n - from < BLOCK_ROWS * 2 ? n - from :
													  BLOCK_ROWS * 2);
		SimBlock *block = block_create(rows);

		memcpy(block->records, merged + from, rows * sizeof(SimRecord));
		block_finish(block);
		if (old)
			sim_block_inherit(block, old, org, origin + from);
		listing_add(listing, block);
	}
	free(merged);
	free(origin);
}

/*
 * Apply edits, at most one a record, and publish the new listing.  The caller
 * holds the writer's lock; edits get sorted.
 */
void
sim_data_apply(SimOrg *org, SimEdit *edits, int64_t nedits)
{
	SimListing *old = org->listing;
	SimListing *new;
	int64_t e = 0;
	int b;

	qsort(edits, nedits, sizeof(SimEdit), compare_edits);
	new = listing_create((int) (old->nblocks * 2 + nedits / BLOCK_ROWS + 2));
	for (b = 0; b < old->nblocks; b++)
	{
		int64_t first = e;

		while (
			e < nedits &&
			(b == old->nblocks - 1 ||
			 strcmp(edits[e].record.id, old->blocks[b + 1]->records[0].id) < 0))
			e++;
		if (e > first)
			merge_block(org, new, old->blocks[b], edits + first, e - first);
		else
		{
			atomic_fetch_add(&old->blocks[b]->refs, 1);
			listing_add(new, old->blocks[b]);
		}
	}
	if (old->nblocks == 0 && nedits > 0)
		merge_block(org, new, NULL, edits, nedits);
	org_publish(org, new);
}

static uint64_t
change_random(const SimOrg *org)
{
	return sim_hash(org->name, sim_data.seed ^ (++sim_data.changes << 20));
}

/* Rows, ascending and distinct: about `fraction` of all, or `count` of them. */
static int64_t *
choose_rows(const SimListing *listing, double fraction, int64_t count,
			int64_t within, uint64_t *random, int64_t *nchosen)
{
	int64_t total = listing->nrows;
	int64_t *chosen;
	int64_t n = 0;
	int64_t row;

	if (within >= 0 && within < total)
		total = within;
	if (count <= 0)
		count = (int64_t) (fraction * (double) total + 0.5);
	if (count > total)
		count = total;
	chosen = sim_alloc(count * sizeof(int64_t));
	/* selection sampling: each set of rows is equally likely */
	for (row = 0; row < total && n < count; row++)
		if (sim_random(random) % (uint64_t) (total - row) <
			(uint64_t) (count - n))
			chosen[n++] = row;
	*nchosen = n;
	return chosen;
}

/*
 * Change records: new values and a new pfs_lastmodified.  backdate_ms sets
 * the latter back, as a late commit in PEMS does.
 */
int64_t
sim_data_change(SimOrg *org, double fraction, int64_t count, int64_t within,
				int64_t backdate_ms)
{
	uint64_t random;
	int64_t *rows;
	int64_t n;
	int64_t i;
	SimEdit *edits;

	pthread_mutex_lock(&sim_data.lock);
	random = change_random(org);
	rows = choose_rows(org->listing, fraction, count, within, &random, &n);
	edits = sim_alloc(n * sizeof(SimEdit));
	for (i = 0; i < n; i++)
	{
		SimRecord *record = &edits[i].record;

		*record = *sim_listing_record(org->listing, rows[i]);
		sim_regenerate(record, &random);
		record->modified = sim_data_tick() - backdate_ms;
		record->recordid++;
	}
	if (n > 0)
		sim_data_apply(org, edits, n);
	pthread_mutex_unlock(&sim_data.lock);
	free(edits);
	free(rows);
	return n;
}

/* New records: at the end of the listing, or scattered over its beginning. */
int64_t
sim_data_insert(SimOrg *org, int64_t count, bool scattered, int64_t within)
{
	uint64_t random;
	SimEdit *edits = sim_alloc(count * sizeof(SimEdit));
	int64_t rows;
	int64_t i;

	pthread_mutex_lock(&sim_data.lock);
	random = change_random(org);
	rows = org->listing->nrows;
	if (within >= 0 && within < rows)
		rows = within;
	for (i = 0; i < count; i++)
	{
		SimRecord *record = &edits[i].record;
		uint32_t serial = ++org->last_serial;

		sim_generate(record, org, serial);
		if (scattered && rows > 0)
		{
			char id[96];
			int64_t row = (int64_t) (sim_random(&random) % (uint64_t) rows);

			/* the serial makes it unique, the prefix puts it after a record */
			snprintf(id, sizeof(id), "%.*s-%u", org->id_width + 4,
					 sim_listing_record(org->listing, row)->id, serial);
			record->id = sim_keep(id, strlen(id));
		}
		record->modified = sim_data_tick();
	}
	if (count > 0)
		sim_data_apply(org, edits, count);
	pthread_mutex_unlock(&sim_data.lock);
	free(edits);
	return count;
}

/* Delete one record by id, else a count or a fraction of them. */
int64_t
sim_data_delete(SimOrg *org, double fraction, int64_t count, int64_t within,
				const char *id)
{
	SimEdit *edits;
	int64_t *rows;
	int64_t n = 0;
	int64_t i;
	uint64_t random;

	pthread_mutex_lock(&sim_data.lock);
	if (id)
	{
		rows = sim_alloc(sizeof(int64_t));
		rows[0] = sim_listing_search(org->listing, id, false);
		n = sim_listing_find(org->listing, id) != NULL;
	}
	else
	{
		random = change_random(org);
		rows = choose_rows(org->listing, fraction, count, within, &random, &n);
	}
	edits = sim_alloc(n * sizeof(SimEdit));
	for (i = 0; i < n; i++)
	{
		edits[i].remove = true;
		edits[i].record = *sim_listing_record(org->listing, rows[i]);
	}
	if (n > 0)
		sim_data_apply(org, edits, n);
	pthread_mutex_unlock(&sim_data.lock);
	free(edits);
	free(rows);
	return n;
}
