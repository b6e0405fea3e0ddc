/*
 * draft.c
 *	  Drafts: save, commit, discard.
 *
 * A draft is compared with what its user sees without it: the mirror, and over
 * it whatever anybody has committed and PEMS has not taken yet.  Fields that
 * equal that are not part of the draft, and the values of the others are what
 * the draft remembers as begun on.  Nothing is locked but the user's own
 * drafts, in the order of their records; syncs neither wait for drafts nor are
 * waited for, as whatever they change meanwhile will be told from base.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

#include "catalog/field_table.h"
#include "catalog/merged.h"
#include "catalog/mirror.h"
#include "merge/change.h"
#include "merge/draft.h"
#include "merge/record.h"

/* Concurrent calls of one user that draft and drop one record in turn. */
#define MAX_ATTEMPTS 100

/* A record, and what its user sees without the draft. */
typedef struct Beneath
{
	PfaMirrorRecord record;
	PfaMerged merged;
	PfaOverlayList layers;
	bool drafted; /* the last layer is the draft */
} Beneath;

/* Where records and overlays are read, open for a whole call. */
typedef struct Sources
{
	PfaMirrorReader reader;
	PfaOverlays overlays;
} Sources;

typedef struct Outcome
{
	const char *pfa_id;
	uint32 id_len;
	int64 modification_id; /* 0: the record has no draft now */
	int64 version;
} Outcome;

/* ---- answers ---- */

/* Keys, entries, two numbers and paddings; the id comes on top. */
#define OUTCOME_ROOM 128

static Size
write_outcome(char *out, const Outcome *outcome)
{
	PfaJsonbItem items[3];

	pfa_jsonb_set_string(&items[0], "pfaId", outcome->pfa_id, outcome->id_len);
	if (outcome->modification_id == 0)
	{
		pfa_jsonb_set_null(&items[1], "version");
		pfa_jsonb_set_null(&items[2], "modificationId");
	}
	else
	{
		pfa_jsonb_set_numeric(&items[1], "version",
							  int64_to_numeric(outcome->version));
		pfa_jsonb_set_numeric(&items[2], "modificationId",
							  int64_to_numeric(outcome->modification_id));
	}
	return pfa_jsonb_write_object(out, items, 3);
}

static Size
write_outcomes(char *out, const Outcome *outcomes, int n)
{
	PfaJsonbTarget target;

	pfa_jsonb_begin_array(&target, out, n);
	for (int i = 0; i < n; i++)
		pfa_jsonb_placed(&target,
						 write_outcome(pfa_jsonb_place(&target), &outcomes[i]));
	return pfa_jsonb_end(&target);
}

/*
 * {"sessionId", what: [...]}; the longer key comes second, or, of the same
 * length, the one that the alphabet puts second.
 */
static Jsonb *
make_answer(const char *session_id, const char *what, const Outcome *outcomes,
			int n)
{
	bool list_first = pfa_jsonb_compare_keys(what, strlen(what), "sessionId",
											 9) < 0;
	const char *keys[2];
	PfaJsonbItem session;
	PfaJsonbTarget target;
	Size room = OUTCOME_ROOM;
	Jsonb *answer;

	for (int i = 0; i < n; i++)
		room += OUTCOME_ROOM + outcomes[i].id_len;
	if (session_id == NULL)
		pfa_jsonb_set_null(&session, NULL);
	else
		pfa_jsonb_set_string(&session, NULL, session_id, strlen(session_id));
	room += session.len;
	pfa_jsonb_check_size(room);
	answer = palloc(VARHDRSZ + room);

	keys[list_first ? 0 : 1] = what;
	keys[list_first ? 1 : 0] = "sessionId";
	pfa_jsonb_begin_object(&target, VARDATA(answer), keys, 2);
	if (!list_first)
		pfa_jsonb_put(&target, &session);
	pfa_jsonb_placed(&target,
					 write_outcomes(pfa_jsonb_place(&target), outcomes, n));
	if (list_first)
		pfa_jsonb_put(&target, &session);
	SET_VARSIZE(answer, VARHDRSZ + pfa_jsonb_end(&target));
	return answer;
}

static Jsonb *
answer_drafts(const char *session_id, const char *what, const PfaDraft *drafts,
			  int n)
{
	Outcome *outcomes = palloc0(sizeof(Outcome) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		outcomes[i].pfa_id = drafts[i].pfa_id;
		outcomes[i].id_len = drafts[i].id_len;
		outcomes[i].modification_id = drafts[i].modification_id;
		outcomes[i].version = drafts[i].version;
	}
	return make_answer(session_id, what, outcomes, n);
}

/* ---- what is beneath a draft ---- */

/* The newest state, not that of the calling statement. */
static void
open_sources(Sources *sources, const PfaDraftOwner *owner)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	pfa_mirror_reader_open(&sources->reader, owner->organization_id,
						   GetActiveSnapshot());
	pfa_overlays_open(&sources->overlays, owner->organization_id,
					  owner->user_id, GetActiveSnapshot());
}

static void
close_sources(Sources *sources)
{
	pfa_overlays_close(&sources->overlays);
	pfa_mirror_reader_close(&sources->reader);
	PopActiveSnapshot();
}

/* False where the mirror does not have the record. */
static bool
read_beneath(Beneath *beneath, const PfaDraftOwner *owner, Sources *sources,
			 const char *pfa_id, uint32 id_len)
{
	int n;

	memset(beneath, 0, sizeof(*beneath));
	if (!pfa_mirror_reader_find(&sources->reader, &beneath->record, pfa_id,
								id_len))
		return false;
	pfa_overlays_of_record(&sources->overlays, pfa_id, id_len,
						   &beneath->layers);
	n = beneath->layers.n;
	beneath->drafted = n > 0 &&
		beneath->layers.items[n - 1].state == PFA_STATE_MODIFIED;
	pfa_merge(&beneath->merged, owner->organization_id,
			  &beneath->record.data->root, beneath->layers.items,
			  n - beneath->drafted);
	return true;
}

/* The value that the user sees without the draft; missing is null. */
static PfaJsonbItem
beneath_value(const Beneath *beneath, const PfaJsonbItem *key)
{
	const PfaJsonbItem *found = pfa_jsonb_find(beneath->merged.items,
											   beneath->merged.nitems,
											   pnstrdup(key->key,
														key->key_len));
	PfaJsonbItem value = *key;

	value.type = found == NULL ? JENTRY_ISNULL : found->type;
	value.value = found == NULL ? "" : found->value;
	value.len = found == NULL ? 0 : found->len;
	return value;
}

/* ---- save ---- */

/* A draft's delta and base as items. */
typedef struct Content
{
	PfaJsonbItem *delta;
	int ndelta;
	PfaJsonbItem *base;
	int nbase;
} Content;

static PfaJsonbItem *
open_items(const Jsonb *object, int *n)
{
	PfaJsonbItem *items;

	*n = object == NULL ? 0 : pfa_jsonb_nmembers(&object->root);
	items = palloc(sizeof(PfaJsonbItem) * Max(*n, 1));
	if (object != NULL)
		(void) pfa_jsonb_members(&object->root, items);
	return items;
}

/* Leave out of the delta what its user would see without it. */
static void
drop_equal(Content *content, const PfaChange *change, const Beneath *beneath)
{
	int kept = 0;

	for (int i = 0; i < content->ndelta; i++)
	{
		const PfaJsonbItem *item = &content->delta[i];
		PfaJsonbItem value = beneath_value(beneath, item);

		/* Only what this call is about: older fields stay as they are. */
		if (pfa_jsonb_same_value(item, &value) &&
			pfa_jsonb_find(change->items, change->nitems,
						   pnstrdup(item->key, item->key_len)) != NULL)
			continue;
		content->delta[kept++] = *item;
	}
	content->ndelta = kept;
}

/* The values begun on: those remembered, and present ones for new fields. */
static void
complete_base(Content *content, const Beneath *beneath)
{
	PfaJsonbItem *base = palloc(sizeof(PfaJsonbItem) * Max(content->ndelta, 1));

	for (int i = 0; i < content->ndelta; i++)
	{
		const PfaJsonbItem *item = &content->delta[i];
		const PfaJsonbItem *known = pfa_jsonb_find(content->base,
												   content->nbase,
												   pnstrdup(item->key,
															item->key_len));

		base[i] = known != NULL ? *known : beneath_value(beneath, item);
	}
	content->base = base;
	content->nbase = content->ndelta;
}

static bool
same_items(const PfaJsonbItem *a, int na, const PfaJsonbItem *b, int nb)
{
	if (na != nb)
		return false;
	for (int i = 0; i < na; i++)
	{
		if (pfa_jsonb_compare_keys(a[i].key, a[i].key_len, b[i].key,
								   b[i].key_len) != 0 ||
			!pfa_jsonb_same_value(&a[i], &b[i]))
			return false;
	}
	return true;
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* A session or reason that is not given leaves the stored one. */
static bool
is_unchanged(const PfaDraft *draft, const Content *content,
			 const PfaChange *change, const char *session_id)
{
	int n;
	PfaJsonbItem *stored = open_items(draft->delta, &n);

	return same_items(stored, n, content->delta, content->ndelta) &&
		(session_id == NULL || same_text(session_id, draft->session_id)) &&
		(change->change_reason == NULL ||
		 same_text(change->change_reason, draft->change_reason));
}

static void
check_result(const Beneath *beneath, const PfaChange *change,
			 const Content *content)
{
	PfaJsonbItem *items = beneath->merged.items;
	int n = beneath->merged.nitems;

	pfa_merge_items(&items, &n, content->delta, content->ndelta);
	pfa_change_check_periods(change->pfa_id, items, n, change->items,
							 change->nitems, "Change both in one delta.");
}

/* Store what has become of the draft; false: a concurrent call was first. */
static bool
store_draft(const PfaDraftOwner *owner, PfaDraft *draft, const Content *content,
			const PfaChange *change, const char *session_id,
			const Beneath *beneath)
{
	bool stored = draft->modification_id != 0;

	if (content->ndelta == 0)
	{
		if (stored)
			pfa_draft_delete(draft->modification_id);
		draft->modification_id = 0;
		return true;
	}
	if (stored && is_unchanged(draft, content, change, session_id))
		return true;
	draft->delta = pfa_jsonb_make_object(content->delta, content->ndelta);
	draft->base = pfa_jsonb_make_object(content->base, content->nbase);
	if (session_id != NULL)
		draft->session_id = pstrdup(session_id);
	if (change->change_reason != NULL)
		draft->change_reason = change->change_reason;
	if (stored)
	{
		pfa_draft_update(draft);
		return true;
	}
	draft->pfa_id = change->pfa_id;
	draft->id_len = change->id_len;
	draft->base_version = beneath->record.version;
	return pfa_draft_insert(owner, draft);
}

/* Work on a record, which a call can have thousands of. */
static MemoryContext
make_record_context(void)
{
	return AllocSetContextCreate(CurrentMemoryContext, "pfa_vanguard draft",
								 ALLOCSET_DEFAULT_SIZES);
}

/* What the user sees of the record without the draft, as it is now. */
static void
read_now(Beneath *beneath, const PfaDraftOwner *owner, const PfaChange *change)
{
	Sources sources;
	bool found;

	open_sources(&sources, owner);
	found = read_beneath(beneath, owner, &sources, change->pfa_id,
						 change->id_len);
	close_sources(&sources);
	if (!found)
		ereport(
			ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("record \"%s\" does not exist in organization \"%s\"",
					change->pfa_id, owner->organization_id),
			 errhint(
				 "New records are made in PEMS; a sync brings them here.")));
}

/*
 * A draft that is there is locked before anything else is looked at: its user
 * may have committed it in another session meanwhile, and what is beneath has
 * then become another.  Where there is none, the insert finds out.
 */
static bool
try_change(const PfaDraftOwner *owner, const PfaChange *change,
		   const char *session_id, Outcome *outcome)
{
	Beneath beneath;
	PfaDraft draft = {0};
	Content content;

	read_now(&beneath, owner, change);
	if (beneath.drafted)
	{
		if (!pfa_draft_lock(owner, change->pfa_id, &draft))
			memset(&draft, 0, sizeof(draft));
		read_now(&beneath, owner, change);
	}
	content.delta = open_items(draft.delta, &content.ndelta);
	content.base = open_items(draft.base, &content.nbase);
	pfa_merge_items(&content.delta, &content.ndelta, change->items,
					change->nitems);
	drop_equal(&content, change, &beneath);
	complete_base(&content, &beneath);
	check_result(&beneath, change, &content);
	if (!store_draft(owner, &draft, &content, change, session_id, &beneath))
		return false;
	outcome->pfa_id = change->pfa_id;
	outcome->id_len = change->id_len;
	outcome->modification_id = draft.modification_id;
	outcome->version = draft.version;
	return true;
}

static void
save_change(const PfaDraftOwner *owner, const PfaChange *change,
			const char *session_id, Outcome *outcome)
{
	for (int attempt = 0; attempt < MAX_ATTEMPTS; attempt++)
	{
		CHECK_FOR_INTERRUPTS();
		if (try_change(owner, change, session_id, outcome))
			return;
	}
	ereport(
		ERROR,
		(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
		 errmsg(
			 "could not save the draft of record \"%s\" due to concurrent drafts",
			 change->pfa_id)));
}

Jsonb *
pfa_draft_save(const PfaDraftOwner *owner, const char *session_id,
			   Jsonb *modifications)
{
	int n;
	PfaChange *changes = pfa_changes_parse(pfa_field_table(
											   owner->organization_id),
										   modifications, &n);
	Outcome *outcomes = palloc0(sizeof(Outcome) * n);
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext record = make_record_context();

	/* In byte order of ids, so that two calls cannot wait for one another. */
	for (int i = 0; i < n; i++)
	{
		MemoryContextReset(record);
		MemoryContextSwitchTo(record);
		save_change(owner, &changes[i], session_id,
					&outcomes[changes[i].position]);
		MemoryContextSwitchTo(caller);
	}
	MemoryContextDelete(record);
	return make_answer(session_id, "saved", outcomes, n);
}

/* ---- commit, discard ---- */

/*
 * A sync may have moved the other end of a period since the draft was saved.  A
 * record that has vanished is left for the write to PEMS to find out, which
 * makes a conflict of it.
 */
static void
check_draft(const PfaDraftOwner *owner, Sources *sources, const PfaDraft *draft)
{
	Beneath beneath;
	int n;
	PfaJsonbItem *delta = open_items(draft->delta, &n);

	if (!read_beneath(&beneath, owner, sources, draft->pfa_id, draft->id_len))
		return;
	pfa_merge_items(&beneath.merged.items, &beneath.merged.nitems, delta, n);
	pfa_change_check_periods(
		draft->pfa_id, beneath.merged.items, beneath.merged.nitems, delta, n,
		"The record has changed since. Draft both dates anew, or discard the draft with pfa_discard.");
}

Jsonb *
pfa_draft_commit(const PfaDraftOwner *owner, const char *session_id)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext record = make_record_context();
	Sources sources;
	PfaDraft *drafts;
	int n;

	drafts = pfa_drafts_lock(owner, session_id, &n);
	open_sources(&sources, owner);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(record);
		MemoryContextSwitchTo(record);
		check_draft(owner, &sources, &drafts[i]);
		MemoryContextSwitchTo(caller);
	}
	close_sources(&sources);
	MemoryContextDelete(record);
	if (n > 0)
		pfa_drafts_commit(drafts, n);
	return answer_drafts(session_id, "committed", drafts, n);
}

Jsonb *
pfa_draft_discard(const PfaDraftOwner *owner, const char *session_id,
				  Datum pfa_ids, bool have_ids)
{
	PfaDraft *drafts;
	int n;

	drafts = pfa_drafts_discard(owner, session_id, pfa_ids, have_ids, &n);
	return answer_drafts(session_id, "discarded", drafts, n);
}
