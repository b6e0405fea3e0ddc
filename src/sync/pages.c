/*
 * pages.c
 *	  Read the pages of a listing and hand their records to apply.c.
 *
 * Several pages are on their way at a time.  Their records are written in
 * transactions that never span a wait: when a page has ended, or when one has
 * brought more than FLUSH_BYTES of records, what has come is compared and
 * written, and the transaction ends before the network is looked at again.
 *
 * Each finished page leaves a row in pfa_sync_page in the transaction of its
 * last records.  Saved earlier, it could survive a crash that they did not.
 *
 * Two processes may read one listing: the leader claims pages from the low
 * end, its helper from the high end, so that pages that overlap are written by
 * two processes only where these meet.  Whatever goes missing between them,
 * through a crash or through rows that shifted, is found by the coverage test.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "events/ring.h"
#include "metrics/counters.h"
#include "sync/retry.h"
#include "sync/run_state.h"

/* Records of a page are written when so many bytes of them have come. */
#define FLUSH_BYTES ((size_t) 8 * 1024 * 1024)

/* Rows that a page shares with the one before it. */
#define OVERLAP_ROWS 32

/* An overlap takes at least three rows to show. */
#define MIN_PAGE_ROWS 3

/* Number of a second look at the first page. */
#define FIRST_AGAIN INT64_MIN

/* How often a gap may be read again before the run gives up. */
#define MAX_GAP_READS 32

/* Pages in flight and waiting for a retry, at most. */
#define MAX_PAGES 16

/* Longest wait without a look at the cancel flag. */
#define WAIT_SLICE_MS 500

/* A page being read: one or more attempts at the same rows. */
typedef struct Page
{
	bool in_use;
	bool done;
	int64 page_no; /* negative: read again to close a gap */
	int64 offset;
	char *after_id;       /* keyset: rows from this id on */
	bool counted;         /* all rows are counted already */
	char *counted_to;     /* rows up to this id are; NULL: not known */
	bool counted_to_ours; /* so is our record of just that id */
	char *counted_from;   /* and rows from this one on; NULL: none */
	int attempt;
	TimestampTz not_before; /* of the next attempt */
	PfaGridPage *fetch;     /* NULL between attempts */
	PfaGridPage *probe;     /* of a short page, or NULL */
	bool vouched;           /* the probe found the page to be whole */

	/* of this attempt */
	char *settled; /* ids up to here are written and judged */
	bool blind;    /* a record without id was rejected: what it
								 * was called is not known, so judge none */
	bool judged;   /* candidates for deletion may be stored */
	int64 seen;
	int64 rejected;
	/* of all attempts */
	int64 inserted;
	int64 updated;

	/* of the finished page */
	bool last;
	char *lower;
	char *upper;
	bool upper_is_ours;
	int64 nrows;
} Page;

typedef struct Reader
{
	PfaRunState *state;
	Page pages[MAX_PAGES];
	int npages;
} Reader;

/* One write of a page's records, for the body of a transaction. */
typedef struct Flush
{
	Page *page;
	bool final;
	const char *lower;
	const char *upper;
	PfaApplyResult result;
} Flush;

static char *
keep(PfaRunState *state, const char *text)
{
	return text == NULL ? NULL : MemoryContextStrdup(state->ctx, text);
}

static void
release(char **text)
{
	if (*text != NULL)
		pfree(*text);
	*text = NULL;
}

/* ---- what a page says about the listing ---- */

/*
 * Is this page the end of the listing?
 *
 * A short page is the end only when the total agrees or is not told: PEMS may
 * return fewer rows than it was asked for.  Totals may be wrong, so where
 * MORERECORDPRESENT is there it has the first word.
 */
static bool
is_last(const PfaGridResult *result, const Page *page, int64 asked)
{
	int64 reached = page->offset + result->nrows;

	if (page->after_id != NULL || result->total < 0)
	{
		if (result->more >= 0)
			return result->more == 0;
		return result->nrows < asked;
	}
	if (result->more == 1)
		return false;
	if (result->more == 0)
		return result->total <= reached;
	if (result->nrows == 0)
		return result->total <= page->offset;
	if (result->total > reached)
		return false;
	return result->total == reached || result->nrows < asked;
}

/* Has the page fewer rows than there are at its place, by its own account? */
static bool
is_short(const PfaGridResult *result, const Page *page, int64 asked)
{
	if (result->total >= 0)
		return result->nrows < Min(asked, result->total - page->offset);
	return result->more == 1 && result->nrows < asked;
}

/* An answer that contradicts itself is worth another try, never data. */
static const char *
contradiction(const PfaGridResult *result, const Page *page, int64 asked)
{
	if (result->nrows == 0 && result->more == 1)
		return "PEMS returned no rows but says that more follow";
	if (result->nrows == 0 && is_short(result, page, asked))
		return "PEMS returned no rows but counts some";
	return NULL;
}

/* ---- claiming ---- */

/*
 * The leader takes pages as long as there are any.  Its helper leaves when
 * another sync waits for a worker: one large organization must not have two
 * while others have none.
 */
static bool
claim(PfaRunState *state, int64 *page_no)
{
	PfaSlot *slot = state->slot;
	bool found;

	if (!state->leader && pfa_database_others_wait(InvalidOid))
		return false;
	SpinLockAcquire(&slot->mutex);
	if (state->leader && state->end_page >= 0 &&
		slot->next_high > state->end_page)
		slot->next_high = Max(state->end_page, slot->next_low);
	found = slot->run_id == state->run_id && slot->next_low < slot->next_high;
	if (found)
		*page_no = state->leader ? slot->next_low++ : --slot->next_high;
	SpinLockRelease(&slot->mutex);
	return found;
}

static Page *
free_page(Reader *reader)
{
	for (int i = 0; i < MAX_PAGES; i++)
	{
		Page *page = &reader->pages[i];

		if (!page->in_use)
		{
			memset(page, 0, sizeof(Page));
			page->in_use = true;
			reader->npages++;
			return page;
		}
	}
	return NULL;
}

static void
drop_page(Reader *reader, Page *page)
{
	if (page->fetch != NULL)
		pfa_grid_page_free(page->fetch);
	if (page->probe != NULL)
		pfa_grid_page_free(page->probe);
	release(&page->settled);
	release(&page->lower);
	release(&page->upper);
	release(&page->after_id);
	release(&page->counted_to);
	release(&page->counted_from);
	page->in_use = false;
	reader->npages--;
}

/* ---- writing ---- */

/* Greatest id in the batch, of records and rejects, or NULL. */
static const char *
greatest_id(PfaBatch *batch)
{
	int nrecords = pfa_batch_nrecords(batch);
	const PfaReject *rejects = pfa_batch_rejects(batch);
	const char *id = NULL;

	if (nrecords > 0)
	{
		PfaRecord *last = &pfa_batch_records(batch)[nrecords - 1];

		id = pnstrdup(last->id, last->id_len);
	}
	for (int i = 0; i < pfa_batch_nrejects(batch); i++)
	{
		if (rejects[i].id[0] != '\0' &&
			(id == NULL || strcmp(rejects[i].id, id) > 0))
			id = rejects[i].id;
	}
	return id;
}

static void
take_client_counts(PfaRunState *state, PfaRunCounts *counts)
{
	int64 calls = pfa_grid_client_calls(state->client);
	int64 bytes = pfa_grid_client_bytes(state->client);

	counts->api_calls += calls - state->calls_saved;
	counts->bytes_received += bytes - state->bytes_saved;
}

/* What the page did that has not been counted; after its commit. */
static void
count_progress(PfaRunState *state, Page *page, const PfaApplyResult *result,
			   bool final)
{
	PfaSyncProgress progress = {0};

	progress.inserted = result->inserted;
	progress.updated = result->updated;
	if (final)
	{
		PfaRunCounts client = {0};

		take_client_counts(state, &client);
		progress.rejected = page->rejected;
		progress.unchanged = page->seen - page->rejected - page->inserted -
			page->updated;
		progress.api_calls = client.api_calls + state->unsaved.api_calls;
		progress.retries = state->unsaved.retries;
	}
	pfa_metrics_sync_progress(state->organization->organization_id, &progress);
}

static void
write_page(PfaRunState *state, void *arg)
{
	Flush *flush = arg;
	Page *page = flush->page;
	PfaBatch *batch = pfa_grid_page_batch(page->fetch);
	bool judge = state->full && !page->blind;

	pfa_apply_batch(state->apply, batch, judge, flush->lower, flush->upper,
					!flush->final, &flush->result);
	if (flush->result.nvanished > 0)
		pfa_vanished_insert(state->run_id, page->page_no,
							flush->result.vanished, flush->result.nvanished);
	if (pfa_batch_nrejects(batch) > 0)
		pfa_reject_insert(state->run_id, state->organization->organization_id,
						  pfa_batch_rejects(batch), pfa_batch_nrejects(batch));
	if (flush->result.nrejected > 0)
		pfa_reject_insert(state->run_id, state->organization->organization_id,
						  flush->result.rejects, flush->result.nrejected);
	if (flush->final)
	{
		PfaPageRow row = {0};

		row.page_no = page->page_no;
		row.lower_id = page->lower;
		row.upper_id = page->upper;
		row.upper_is_ours = page->upper_is_ours;
		row.counts = state->unsaved;
		row.counts.rows_seen += page->seen;
		row.counts.rows_inserted += page->inserted + flush->result.inserted;
		row.counts.rows_updated += page->updated + flush->result.updated;
		row.counts.rows_rejected += page->rejected + flush->result.nrejected;
		row.counts.rows_vanished += flush->result.nvanished;
		take_client_counts(state, &row.counts);
		pfa_page_insert(state->run_id, &row);
	}
}

static void
note_version(PfaRunState *state, const char *version)
{
	PfaSlot *slot = state->slot;

	if (version == NULL || strlen(version) >= sizeof(slot->max_version))
		return;
	SpinLockAcquire(&slot->mutex);
	if (strcmp(version, slot->max_version) > 0)
		strcpy(slot->max_version, version);
	SpinLockRelease(&slot->mutex);
}

/* Is our record of this id one that another page counts? */
static bool
is_counted(const Page *page, const char *id)
{
	if (page->counted)
		return true;
	if (page->counted_to != NULL)
	{
		int order = strcmp(id, page->counted_to);

		if (order < 0 || (order == 0 && page->counted_to_ours))
			return true;
	}
	return page->counted_from != NULL && strcmp(id, page->counted_from) >= 0;
}

/*
 * Rows of the batch, and of them rejected ones, that another page has counted
 * or will count.
 *
 * What the page before has counted is known by its last id.  Where that page
 * has not been read yet, the rows it shares with this one are counted off, as
 * if none had shifted.
 */
static void
count_elsewhere(const Page *page, PfaBatch *batch, const PfaGridResult *result,
				int64 *rows, int64 *rejected)
{
	const PfaReject *rejects = pfa_batch_rejects(batch);
	PfaRecord *records = pfa_batch_records(batch);
	int nrecords = pfa_batch_nrecords(batch);
	int head = 0;
	int tail = 0;

	if (page->page_no > 0 && page->counted_to == NULL)
	{
		/* the batch that came first has them all: they are few */
		*rejected = page->settled != NULL ? 0 : result->marked_rejects;
		*rows = page->settled != NULL ? 0 : result->marked_records + *rejected;
		return;
	}
	*rejected = 0;
	for (int i = 0; i < pfa_batch_nrejects(batch); i++)
		*rejected += is_counted(page, rejects[i].id);
	for (; head < nrecords; head++)
	{
		if (!is_counted(page, pnstrdup(records[head].id, records[head].id_len)))
			break;
	}
	for (; !page->counted && head + tail < nrecords; tail++)
	{
		const PfaRecord *record = &records[nrecords - 1 - tail];

		if (!is_counted(page, pnstrdup(record->id, record->id_len)))
			break;
	}
	*rows = *rejected + head + tail;
}

/*
 * Compare and write what has come of a page.  With final, the page is
 * complete and its row in pfa_sync_page goes with it.
 */
static void
flush_page(Reader *reader, Page *page, bool final)
{
	PfaRunState *state = reader->state;
	PfaBatch *batch = pfa_grid_page_batch(page->fetch);
	const PfaGridResult *result = pfa_grid_page_result(page->fetch);
	const PfaReject *rejects = pfa_batch_rejects(batch);
	Flush flush = {0};
	int64 elsewhere;
	int64 rejected;
	MemoryContext work;
	MemoryContext caller;

	work = AllocSetContextCreate(state->ctx, "pfa_vanguard page",
								 ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(work);

	for (int i = 0; i < pfa_batch_nrejects(batch); i++)
		page->blind |= rejects[i].id[0] == '\0';

	flush.page = page;
	flush.final = final;
	flush.lower = page->settled != NULL ? page->settled : page->lower;
	flush.upper = final ? page->upper : greatest_id(batch);
	if (page->page_no > 0 && page->counted_to == NULL)
		page->counted_to = keep(state,
								pfa_coverage_upper_of(state->coverage,
													  page->page_no - 1,
													  &page->counted_to_ours));
	count_elsewhere(page, batch, result, &elsewhere, &rejected);
	page->seen += pfa_batch_nrecords(batch) + pfa_batch_nrejects(batch) -
		elsewhere;
	page->rejected += pfa_batch_nrejects(batch) - rejected;

	pfa_run_transaction(state, true, write_page, &flush);

	page->inserted += flush.result.inserted;
	page->updated += flush.result.updated;
	page->rejected += flush.result.nrejected;
	count_progress(state, page, &flush.result, final);
	page->judged |= flush.result.nvanished > 0;
	note_version(state, flush.result.max_version);
	if (final)
	{
		memset(&state->unsaved, 0, sizeof(state->unsaved));
		state->calls_saved = pfa_grid_client_calls(state->client);
		state->bytes_saved = pfa_grid_client_bytes(state->client);
		pg_atomic_fetch_add_u64(&state->slot->rows_seen, Max(page->seen, 0));
	}
	else if (flush.upper != NULL)
	{
		release(&page->settled);
		page->settled = keep(state, flush.upper);
	}
	pfa_batch_reset(batch);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(work);
}

/* ---- an attempt at a page ---- */

/* Transaction body: take back what an attempt that failed has judged. */
static void
forget_judgement(PfaRunState *state, void *arg)
{
	Page *page = arg;

	pfa_vanished_forget(state->run_id, page->page_no);
}

static void
start_page(PfaRunState *state, Page *page)
{
	PfaGridRequest request = {0};

	if (page->judged)
		pfa_run_transaction(state, true, forget_judgement, page);
	page->judged = false;
	request.offset = page->offset;
	request.nrows = (int) state->page_rows;
	request.after_id = page->after_id;
	request.modified_since = state->modified_since;
	request.mark = state->page_rows - state->page_step;

	page->attempt++;
	page->seen = 0;
	page->rejected = 0;
	page->blind = false;
	page->vouched = false;
	release(&page->settled);
	page->fetch = pfa_grid_page_start(state->client, &request);
}

/* The next slot from *i on of those who read from this server, or NULL. */
static PfaSlot *
next_of_server(const PfaRunState *state, int *i)
{
	while (pfa_registry_available() && *i < PFA_MAX_SLOTS)
	{
		PfaSlot *slot = pfa_slot_by_index((*i)++);

		if (pg_atomic_read_u32(&slot->in_use) &&
			slot->database == MyDatabaseId &&
			slot->server_oid == state->source->server_oid)
			return slot;
	}
	return NULL;
}

/*
 * Have everyone who reads from this server wait: PEMS limits the tenant, not
 * the request.
 */
static void
pause_server(PfaRunState *state, TimestampTz until)
{
	PfaSlot *slot;
	int i = 0;

	while ((slot = next_of_server(state, &i)) != NULL)
		pg_atomic_write_u64(&slot->not_before, (uint64) until);
	pg_atomic_write_u64(&state->slot->not_before, (uint64) until);
}

/* A run that begins while others of its server wait joins them. */
static void
join_pause(PfaRunState *state)
{
	PfaSlot *slot;
	uint64 until = 0;
	int i = 0;

	while ((slot = next_of_server(state, &i)) != NULL)
		until = Max(until, pg_atomic_read_u64(&slot->not_before));
	pg_atomic_write_u64(&state->slot->not_before, until);
}

/* Longer than we are willing to wait: say so, or nobody would know why. */
static void
report_capped(PfaRunState *state, double retry_after)
{
	pfa_event_post(PFA_LEVEL_WARNING, "sync",
				   state->organization->organization_id, state->run_id,
				   "retry_after_capped",
				   psprintf("PEMS asked to wait for %.0f s and is asked again "
							"after %.0f s",
							retry_after, PFA_RETRY_AFTER_MAX),
				   NULL);
}

/*
 * A short page is short because PEMS limits pages, or because it counts rows
 * that it does not show, whose ids would then be taken for deleted.  Only in
 * the first case the last of n rows has the place of the n-th: have it looked
 * at, while the page waits.
 */
static void
start_probe(PfaRunState *state, Page *page, int64 nrows)
{
	PfaGridRequest request = {0};

	request.offset = page->offset + nrows - 1;
	request.nrows = 2;
	request.after_id = page->after_id;
	request.modified_since = state->modified_since;
	page->probe = pfa_grid_page_start(state->client, &request);
}

static bool
probe_agrees(const Page *page)
{
	const char *found = pfa_grid_page_first_id(page->probe);
	const char *expected = pfa_grid_page_last_id(page->fetch);

	return found != NULL && expected != NULL && strcmp(found, expected) == 0;
}

/*
 * The attempt came to nothing, for what failed is the page or its probe: plan
 * the next one, or give up.
 */
static void
retry_page(PfaRunState *state, Page *page, const PfaGridPage *failed,
		   const char *reason)
{
	double retry_after = pfa_grid_page_retry_after(failed);
	int status = pfa_grid_page_status(failed);
	bool limited = status == 429 && retry_after > 0;
	int allowed = state->source->max_retries * (limited ? 20 : 1);
	TimestampTz until;

	if (page->attempt > allowed)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not read from PEMS: %s", reason),
				 errdetail("The page at position %lld was asked for %d times.",
						   (long long) page->offset, page->attempt)));

	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
										pfa_retry_delay_ms(page->attempt,
														   retry_after));
	if (retry_after > PFA_RETRY_AFTER_MAX)
		report_capped(state, retry_after);
	if (retry_after > 0)
		pause_server(state, until);
	page->not_before = until;
	state->unsaved.retries++;
	ereport(DEBUG1,
			(errmsg_internal("page at position %lld failed: %s",
							 (long long) page->offset, reason)));
	release(&page->lower);
	pfa_grid_page_free(page->fetch);
	page->fetch = NULL;
	if (page->probe != NULL)
		pfa_grid_page_free(page->probe);
	page->probe = NULL;
}

static void
finish_page(Reader *reader, Page *page)
{
	PfaRunState *state = reader->state;
	const PfaGridResult *result = pfa_grid_page_result(page->fetch);
	const char *wrong = contradiction(result, page, state->page_rows);

	if (wrong != NULL)
	{
		retry_page(state, page, page->fetch, wrong);
		return;
	}
	if (!page->vouched && is_short(result, page, state->page_rows))
	{
		start_probe(state, page, result->nrows);
		return;
	}
	page->nrows = result->nrows;
	page->last = is_last(result, page, state->page_rows);
	if (page->nrows > 0 ||
		(page->last && page->offset == 0 && page->after_id == NULL))
	{
		const char *first = pfa_grid_page_first_id(page->fetch);

		page->lower = page->offset == 0 && page->after_id == NULL ?
			NULL :
			keep(state, page->after_id != NULL ? page->after_id : first);
		page->upper = page->last ?
			NULL :
			keep(state, pfa_grid_page_last_id(page->fetch));
		page->upper_is_ours = result->last_id_is_ours;
		flush_page(reader, page, true);
		pfa_coverage_add(state->coverage, page->page_no, page->lower,
						 page->upper, page->upper_is_ours);
	}
	state->foreign += result->nforeign;
	if (result->total >= 0 && page->after_id == NULL)
		state->total = result->total;
	if (page->nrows > 0)
		state->reached = Max(state->reached, page->offset + page->nrows);
	if ((page->last || page->nrows == 0) && page->page_no >= 0)
		state->end_page = page->page_no;
	page->done = true;
}

/* Has a running page brought enough to be written? */
static void
flush_full_page(Reader *reader, Page *page)
{
	if (pfa_batch_bytes(pfa_grid_page_batch(page->fetch)) < FLUSH_BYTES)
		return;
	if (page->lower == NULL && page->offset > 0)
		page->lower = keep(reader->state, pfa_grid_page_first_id(page->fetch));
	flush_page(reader, page, false);
}

static void
end_probe(Reader *reader, Page *page)
{
	if (!probe_agrees(page))
	{
		retry_page(reader->state, page, page->fetch,
				   "PEMS returned fewer rows than it counts");
		return;
	}
	pfa_grid_page_free(page->probe);
	page->probe = NULL;
	page->vouched = true;
	finish_page(reader, page);
}

/* Look at a page after a wait: has it ended, or brought enough to write? */
static void
attend_page(Reader *reader, Page *page)
{
	PfaRunState *state = reader->state;
	PfaGridPage *fetch = page->probe != NULL ? page->probe : page->fetch;

	switch (pfa_grid_page_outcome(fetch))
	{
		case PFA_GRID_RUNNING:
			if (page->probe == NULL)
				flush_full_page(reader, page);
			break;
		case PFA_GRID_PAGE:
			if (page->probe != NULL)
				end_probe(reader, page);
			else
			{
				release(&page->lower);
				finish_page(reader, page);
			}
			break;
		case PFA_GRID_TRANSIENT:
			retry_page(state, page, fetch, pfa_grid_page_error(fetch));
			break;
		case PFA_GRID_DENIED:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
					 errmsg("PEMS refused the credentials: %s",
							pfa_grid_page_error(fetch)),
					 errhint("Check the user mapping for server \"%s\".",
							 state->source->server_name)));
			break;
		case PFA_GRID_FINAL:
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("could not read from PEMS: %s",
							pfa_grid_page_error(fetch))));
			break;
	}
}

/* ---- the loop ---- */

static TimestampTz
server_pause(PfaRunState *state)
{
	return (TimestampTz) pg_atomic_read_u64(&state->slot->not_before);
}

/* Start what may start; how long until something else may, at most a slice. */
static long
start_pages(Reader *reader)
{
	PfaRunState *state = reader->state;
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz pause = server_pause(state);
	long wait = WAIT_SLICE_MS;
	bool reading = false;

	for (int i = 0; i < MAX_PAGES; i++)
	{
		Page *page = &reader->pages[i];
		TimestampTz when = Max(page->not_before, pause);

		if (!page->in_use || page->done)
			continue;
		if (page->fetch == NULL && when <= now)
			start_page(state, page);
		if (page->fetch != NULL)
			reading = true;
		else
			wait = Min(wait, TimestampDifferenceMilliseconds(now, when) + 1);
	}
	pg_atomic_write_u32(&state->slot->phase,
						reading ? PFA_PHASE_READING : PFA_PHASE_WAITING);
	return wait;
}

/* One turn: wait for news of any page and act on it. */
static void
turn(Reader *reader)
{
	PfaRunState *state = reader->state;
	long wait;

	pfa_run_check_stop(state);
	wait = start_pages(reader);
	pfa_grid_wait(state->client, FLUSH_BYTES, wait);
	for (int i = 0; i < MAX_PAGES; i++)
	{
		Page *page = &reader->pages[i];

		if (page->in_use && !page->done && page->fetch != NULL)
			attend_page(reader, page);
	}
	if (state->progress != NULL)
		state->progress(state->slot, state->progress_arg);
}

/* Read one page by itself; gap (or NULL) says what is counted already. */
static Page *
read_alone(Reader *reader, int64 page_no, int64 offset, const char *after_id,
		   const PfaGap *gap)
{
	Page *page = free_page(reader);

	page->page_no = page_no;
	page->offset = offset;
	page->after_id = keep(reader->state, after_id);
	if (gap != NULL)
	{
		page->counted_to = keep(reader->state, gap->after);
		page->counted_to_ours = gap->after_is_ours;
		page->counted_from = keep(reader->state, gap->before);
	}
	while (!page->done)
		turn(reader);
	return page;
}

/* Read the beginning of the listing; how many rows came. */
static int64
read_first(Reader *reader, int64 page_no, bool counted, bool *last)
{
	Page *page = free_page(reader);
	int64 nrows;

	page->page_no = page_no;
	page->counted = counted;
	while (!page->done)
		turn(reader);
	nrows = page->nrows;
	*last = page->last;
	drop_page(reader, page);
	return nrows;
}

void
pfa_pages_first(PfaRunState *state)
{
	Reader reader = {0};
	bool counted = pfa_coverage_has(state->coverage, 0);
	int64 asked = Max(state->source->page_size, MIN_PAGE_ROWS);
	int64 nrows;
	int64 overlap;
	bool last;

	reader.state = state;
	state->page_rows = asked;
	state->page_step = asked;
	join_pause(state);

	nrows = read_first(&reader, 0, counted, &last);

	/*
	 * A first page that is short although more follow shows PEMS's own limit,
	 * or was an accident: then it is longer the second time.
	 */
	if (!last && nrows < asked)
		nrows = Max(nrows, read_first(&reader, FIRST_AGAIN, true, &last));
	if (!last)
		state->page_rows = Max(nrows, MIN_PAGE_ROWS);
	overlap = Max(Min(OVERLAP_ROWS, state->page_rows / 4), 2);
	state->page_step = state->page_rows - overlap;
	pg_atomic_write_u64(&state->slot->rows_total,
						(uint64) Max(state->total, 0));
}

void
pfa_pages_read(PfaRunState *state)
{
	Reader reader = {0};
	bool more = true;

	reader.state = state;
	for (;;)
	{
		while (more &&
			   reader.npages <
				   Min(state->source->requests_in_flight, MAX_PAGES))
		{
			int64 page_no;
			Page *page;

			more = claim(state, &page_no);
			if (!more)
				break;
			if (pfa_coverage_has(state->coverage, page_no))
				continue; /* read before a crash */
			page = free_page(&reader);
			page->page_no = page_no;
			page->offset = page_no * state->page_step;
		}
		if (reader.npages == 0)
			return;
		turn(&reader);
		for (int i = 0; i < MAX_PAGES; i++)
		{
			if (reader.pages[i].in_use && reader.pages[i].done)
				drop_page(&reader, &reader.pages[i]);
		}
	}
}

/* ---- closing gaps ---- */

/*
 * Keyset: the next page begins at the last id of the one before.  An answer
 * that does not get beyond it has ignored the filter.
 */
static void
follow_keys(PfaRunState *state, Reader *reader, const PfaGap *gap,
			int64 page_no)
{
	Page *page = read_alone(reader, page_no, 0, gap->after, gap);

	if (page->nrows == 0)
	{
		/* Even the last row is gone: nothing follows it. */
		pfa_coverage_add(state->coverage, page_no, gap->after, NULL, false);
	}
	else if (page->upper != NULL && strcmp(page->upper, gap->after) <= 0)
		ereport(
			ERROR,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("PEMS does not honor the filter on record ids"),
			 errhint("Set option pagination of server \"%s\" to \"offset\".",
					 state->source->server_name)));
	drop_page(reader, page);
}

/*
 * Where to look for what is missing: rows that moved down while pages were
 * read are before the position where the far side of the gap was found.  The
 * open end follows what has been reached.
 */
static int64
gap_position(PfaRunState *state, const PfaGap *gap)
{
	if (gap->before_page > 0)
		return gap->before_page * state->page_step - state->page_rows / 2;
	if (gap->before == NULL)
		return Max(state->reached - (state->page_rows - state->page_step),
				   pfa_coverage_max_page(state->coverage) * state->page_step);
	return 0;
}

/*
 * Read at *position and move that on to where the next look belongs: behind
 * what has come, or before it where the gap was missed.  Pages may be much
 * shorter than asked for, so they say how far.  *reached is left at the id up
 * to which the page went.
 */
static void
read_gap(PfaRunState *state, Reader *reader, const PfaGap *gap, int64 page_no,
		 int64 *position, char **reached)
{
	Page *page;
	int64 step;

	*position = Max(*position, 0);
	page = read_alone(reader, page_no, *position, NULL, gap);
	step = Max(page->nrows - Max(page->nrows / 4, 2), 1);
	if (page->nrows == 0)
		*position -= state->page_step;
	else if (page->lower != NULL && gap->after != NULL &&
			 strcmp(page->lower, gap->after) >= 0)
		*position -= step;
	else
		*position += step;
	release(reached);
	*reached = keep(state, page->upper);
	drop_page(reader, page);
}

void
pfa_pages_complete(PfaRunState *state)
{
	Reader reader = {0};
	PfaGap gap;
	/* numbers that no page of this run has, read by whichever attempt */
	int64 next_page = state->keyset ?
		pfa_coverage_max_page(state->coverage) + 1 :
		1 - pfa_coverage_min_page(state->coverage);
	int64 position = 0;
	char *same_gap = NULL;
	char *reached = NULL;
	int reads = 0;

	reader.state = state;
	while (pfa_coverage_gap(state->coverage, &gap))
	{
		/* Each look must get further, or it counts against the run. */
		if (same_gap == NULL || gap.after == NULL ||
			strcmp(same_gap, gap.after) != 0)
		{
			/* what follows the last page read is found behind it */
			if (reached == NULL || gap.after == NULL ||
				strcmp(reached, gap.after) != 0)
				position = gap_position(state, &gap);
			release(&same_gap);
			same_gap = keep(state, gap.after);
			reads = 0;
		}
		if (++reads > MAX_GAP_READS)
			ereport(
				ERROR,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("PEMS returned an incomplete listing"),
				 errdetail(
					 "Records after \"%s\" are missing from its pages, or move faster than they can be read.",
					 gap.after == NULL ? "" : gap.after)));
		if (state->keyset)
			follow_keys(state, &reader, &gap, next_page++);
		else
			read_gap(state, &reader, &gap, -next_page++, &position, &reached);
	}
}
