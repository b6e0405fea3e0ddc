/*
 * generation.c
 *	  Which state of an organization a cached answer stands for: see
 *	  generation.h for what is promised, and why it holds.
 *
 * A slot is guarded by a spinlock, held for as long as it takes to copy it or
 * to assign some words of it.  Readers decide by their copy.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "generation.h"

#define NSLOTS  4096 /* a power of two */
#define NOPEN   4
#define NRECENT 4

/* A transaction that changes more subjects than this changes everything. */
#define MAX_NOTED 32

/* No snapshot in use is older than this many transactions. */
#define XID_SPAN UINT64CONST(0x80000000)

typedef struct Change
{
	FullTransactionId xid;
	FullTransactionId next; /* not assigned yet when xid could be seen */
} Change;

typedef struct Slot
{
	slock_t mutex;
	uint64 generation;
	FullTransactionId open[NOPEN];  /* invalid: free */
	FullTransactionId closed_until; /* greatest that found no place in open */
	Change recent[NRECENT];         /* a ring */
	int newest;                     /* of recent */
	FullTransactionId older_next;   /* greatest next of those pushed out */
} Slot;

typedef struct Shared
{
	slock_t mutex;
	FullTransactionId first_look; /* next xid when the cache was first used */
	Slot slots[NSLOTS];
} Shared;

typedef struct Noted
{
	PfaSubject subject;
	bool has_place; /* in open, since opened */
} Noted;

static Shared *shared;

/* What this transaction has changed. */
static struct
{
	int nnoted;
	Noted noted[MAX_NOTED + 1]; /* the last: everything */
	bool opened;
	FullTransactionId xid; /* since opened */
	bool everything_again; /* see grow_again */
} mine;

static const PfaSubject everything = {PFA_SUBJECT_EVERYTHING};

void (*pfa_generation_changed_hook)(const PfaSubject *subjects, int nsubjects);

/* ---- set-up ---- */

Size
pfa_generation_shmem_size(void)
{
	return MAXALIGN(sizeof(Shared));
}

void
pfa_generation_shmem_startup(void)
{
	bool found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pfa_vanguard generations", sizeof(Shared),
							 &found);
	if (!found)
	{
		memset(shared, 0, sizeof(Shared));
		SpinLockInit(&shared->mutex);
		for (int i = 0; i < NSLOTS; i++)
		{
			SpinLockInit(&shared->slots[i].mutex);
			/* 0 says "none" in a stamp */
			shared->slots[i].generation = 1;
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* ---- subjects ---- */

static bool
set_name(char *to, Size size, const char *name)
{
	return name == NULL || strlcpy(to, name, size) < size;
}

bool
pfa_subject_set(PfaSubject *subject, PfaSubjectKind kind,
				const char *organization, const char *user)
{
	memset(subject, 0, sizeof(*subject));
	subject->kind = kind;
	return set_name(subject->organization, sizeof(subject->organization),
					organization) &&
		set_name(subject->user, sizeof(subject->user), user);
}

static Slot *
slot_of(const PfaSubject *subject)
{
	uint64 seed = ((uint64) MyDatabaseId << 8) | subject->kind;
	uint64 hash;

	hash = hash_bytes_extended((const unsigned char *) subject->organization,
							   strlen(subject->organization), seed);
	if (subject->user[0] != '\0')
		hash = hash_bytes_extended((const unsigned char *) subject->user,
								   strlen(subject->user), hash);
	return &shared->slots[hash & (NSLOTS - 1)];
}

/* ---- changes of a slot ---- */

static FullTransactionId
greater(FullTransactionId a, FullTransactionId b)
{
	return FullTransactionIdPrecedes(a, b) ? b : a;
}

/* Enter xid into open; false where all places are taken. */
static bool
open_change(Slot *slot, FullTransactionId xid)
{
	bool placed = false;

	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < NOPEN && !placed; i++)
	{
		if (FullTransactionIdIsValid(slot->open[i]))
			continue;
		slot->open[i] = xid;
		placed = true;
	}
	if (!placed)
	{
		slot->closed_until = greater(slot->closed_until, xid);
		slot->generation++;
	}
	SpinLockRelease(&slot->mutex);
	return placed;
}

/* With the slot's mutex held. */
static void
push_recent(Slot *slot, Change change)
{
	Change *oldest;

	slot->newest = (slot->newest + 1) % NRECENT;
	oldest = &slot->recent[slot->newest];
	slot->older_next = greater(slot->older_next, oldest->next);
	*oldest = change;
	slot->generation++;
}

/*
 * A change has ended.  One that had a place in open and has it no longer has
 * been settled by a reader.
 */
static void
settle_change(Slot *slot, FullTransactionId xid, bool had_place, bool committed)
{
	Change change = {xid, ReadNextFullTransactionId()};
	bool settled = had_place;

	SpinLockAcquire(&slot->mutex);
	for (int i = 0; i < NOPEN && had_place; i++)
	{
		if (!FullTransactionIdEquals(slot->open[i], xid))
			continue;
		slot->open[i] = InvalidFullTransactionId;
		settled = false;
		break;
	}
	if (committed && !settled)
		push_recent(slot, change);
	SpinLockRelease(&slot->mutex);
}

/* ---- writers ---- */

static bool
name_is(const char *name, const char *other, int len)
{
	return strncmp(name, other, len) == 0 && name[len] == '\0';
}

static bool
is_noted(PfaSubjectKind kind, const char *organization, int organization_len,
		 const char *user, int user_len)
{
	/* The last first: rows of one organization come together. */
	for (int i = mine.nnoted - 1; i >= 0; i--)
	{
		const PfaSubject *subject = &mine.noted[i].subject;

		if (subject->kind == PFA_SUBJECT_EVERYTHING ||
			(subject->kind == kind &&
			 name_is(subject->organization, organization, organization_len) &&
			 name_is(subject->user, user, user_len)))
			return true;
	}
	return false;
}

static void
open_noted(Noted *noted)
{
	noted->has_place = open_change(slot_of(&noted->subject), mine.xid);
}

static PfaSubject *
add_noted(PfaSubjectKind kind)
{
	PfaSubject *subject = &mine.noted[mine.nnoted].subject;

	memset(subject, 0, sizeof(*subject));
	subject->kind = kind;
	mine.noted[mine.nnoted].has_place = false;
	return subject;
}

static void
finish_noted(void)
{
	/* Another's callback writes while this transaction commits. */
	if (mine.opened)
		open_noted(&mine.noted[mine.nnoted]);
	mine.nnoted++;
}

void
pfa_generation_note_everything(void)
{
	if (shared == NULL || is_noted(PFA_SUBJECT_EVERYTHING, "", 0, "", 0))
		return;
	(void) add_noted(PFA_SUBJECT_EVERYTHING);
	finish_noted();
}

void
pfa_generation_note(PfaSubjectKind kind, const char *organization,
					int organization_len, const char *user, int user_len)
{
	PfaSubject *subject;

	if (shared == NULL ||
		is_noted(kind, organization, organization_len, user, user_len))
		return;
	if (mine.nnoted >= MAX_NOTED ||
		organization_len >= PFA_SUBJECT_ORGANIZATION_LEN ||
		user_len >= PFA_SUBJECT_USER_LEN)
	{
		pfa_generation_note_everything();
		return;
	}
	subject = add_noted(kind);
	memcpy(subject->organization, organization, organization_len);
	memcpy(subject->user, user, user_len);
	finish_noted();
}

bool
pfa_generation_noted(const PfaSubject *subject)
{
	return mine.nnoted > 0 &&
		is_noted(subject->kind, subject->organization,
				 strlen(subject->organization), subject->user,
				 strlen(subject->user));
}

/* ---- the transaction's end ---- */

static void
open_all(void)
{
	if (mine.nnoted == 0 || mine.opened)
		return;
	mine.xid = GetTopFullTransactionIdIfAny();
	/* Without an xid nothing has been written. */
	if (!FullTransactionIdIsValid(mine.xid))
	{
		mine.nnoted = 0;
		return;
	}
	mine.opened = true;
	for (int i = 0; i < mine.nnoted; i++)
		open_noted(&mine.noted[i]);
}

static void
forget_noted(void)
{
	mine.nnoted = 0;
	mine.opened = false;
}

static void
tell_changed(void)
{
	PfaSubject subjects[MAX_NOTED + 1];

	if (pfa_generation_changed_hook == NULL)
		return;
	for (int i = 0; i < mine.nnoted; i++)
		subjects[i] = mine.noted[i].subject;
	pfa_generation_changed_hook(subjects, mine.nnoted);
}

static void
settle_all(bool committed)
{
	if (mine.opened)
	{
		for (int i = 0; i < mine.nnoted; i++)
			settle_change(slot_of(&mine.noted[i].subject), mine.xid,
						  mine.noted[i].has_place, committed);
		if (committed)
		{
			mine.everything_again = pfa_generation_noted(&everything);
			tell_changed();
		}
	}
	forget_noted();
}

/*
 * What a backend keeps of our tables by itself (the field mapping) it drops
 * when it is told, and that is after others can see the change.  So what is
 * computed in between may be old: another generation, once all are told, makes
 * an end of it.
 */
static void
grow_again(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
		   void *arg)
{
	Slot *slot;

	if (!mine.everything_again || phase != RESOURCE_RELEASE_AFTER_LOCKS ||
		!is_top_level)
		return;
	mine.everything_again = false;
	slot = slot_of(&everything);
	SpinLockAcquire(&slot->mutex);
	slot->generation++;
	SpinLockRelease(&slot->mutex);
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			open_all();
			break;
		case XACT_EVENT_COMMIT:
			settle_all(true);
			break;
		case XACT_EVENT_ABORT:
			settle_all(false);
			break;
		case XACT_EVENT_PREPARE:
			/* Stays open until a snapshot sees it. */
			forget_noted();
			break;
		default:
			break;
	}
}

void
pfa_generation_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterResourceReleaseCallback(grow_again, NULL);
}

/* ---- what a snapshot shows ---- */

/*
 * Comparisons of 32-bit ids err only in one direction here: a transaction that
 * is half the space or more in the past looks like one of the future.  That is
 * told by the 64 bits that shared memory has.
 */
static bool
is_ancient(FullTransactionId xid)
{
	return U64FromFullTransactionId(xid) + XID_SPAN <
		U64FromFullTransactionId(ReadNextFullTransactionId());
}

static bool
has_ended_by(Snapshot snapshot, FullTransactionId full)
{
	TransactionId xid = XidFromFullTransactionId(full);

	return TransactionIdPrecedes(xid, snapshot->xmin) || is_ancient(full) ||
		!XidInMVCCSnapshot(xid, snapshot);
}

/* Whether the snapshot was taken when all below next had ended, or next had. */
static bool
is_younger_than(Snapshot snapshot, FullTransactionId next)
{
	TransactionId xid = XidFromFullTransactionId(next);

	return !FullTransactionIdIsValid(next) ||
		TransactionIdFollowsOrEquals(snapshot->xmin, xid) ||
		TransactionIdFollows(snapshot->xmax, xid) || is_ancient(next);
}

static void
read_slot(Slot *slot, Slot *copy)
{
	SpinLockAcquire(&slot->mutex);
	memcpy(copy, slot, sizeof(Slot));
	SpinLockRelease(&slot->mutex);
}

static bool
has_committed(FullTransactionId xid)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum status;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = FullTransactionIdGetDatum(xid);
	fcinfo->args[0].isnull = false;
	status = pg_xact_status(fcinfo);
	/* Too long ago to be known: assume the worse. */
	return fcinfo->isnull ||
		strcmp(TextDatumGetCString(status), "aborted") != 0;
}

/*
 * An open change has ended by the snapshot: it was prepared and then committed
 * or rolled back, or its process is about to settle it.
 */
static void
settle_for_another(const PfaSubject *subject, FullTransactionId xid)
{
	bool committed = has_committed(xid);

	settle_change(slot_of(subject), xid, true, committed);
	if (committed && pfa_generation_changed_hook != NULL)
		pfa_generation_changed_hook(subject, 1);
}

/* Settle what has ended; whether there was anything. */
static bool
settle_ended(const PfaSubject *subject, Snapshot snapshot, const Slot *slot)
{
	bool any = false;

	for (int i = 0; i < NOPEN; i++)
	{
		if (!FullTransactionIdIsValid(slot->open[i]) ||
			!has_ended_by(snapshot, slot->open[i]))
			continue;
		settle_for_another(subject, slot->open[i]);
		any = true;
	}
	return any;
}

static bool
sees_recent(Snapshot snapshot, const Slot *slot)
{
	for (int i = 0; i < NRECENT; i++)
	{
		const Change *change = &slot->recent[i];

		if (FullTransactionIdIsValid(change->xid) &&
			!has_ended_by(snapshot, change->xid))
			return false;
	}
	return is_younger_than(snapshot, slot->older_next);
}

/* The generation that the snapshot shows; false where that cannot be told. */
static bool
shown_generation(const PfaSubject *subject, Snapshot snapshot,
				 uint64 *generation)
{
	Slot copy;

	do
	{
		read_slot(slot_of(subject), &copy);
	} while (settle_ended(subject, snapshot, &copy));

	if (FullTransactionIdIsValid(copy.closed_until) &&
		!TransactionIdPrecedes(XidFromFullTransactionId(copy.closed_until),
							   snapshot->xmin) &&
		!is_ancient(copy.closed_until))
		return false;
	*generation = copy.generation;
	return sees_recent(snapshot, &copy);
}

/* The next xid when the cache was first used since the server's start. */
static TransactionId
first_look(void)
{
	FullTransactionId next = ReadNextFullTransactionId();
	FullTransactionId first;

	SpinLockAcquire(&shared->mutex);
	if (!FullTransactionIdIsValid(shared->first_look))
		shared->first_look = next;
	first = shared->first_look;
	SpinLockRelease(&shared->mutex);

	/* Ancient: no snapshot in use is older. */
	if (U64FromFullTransactionId(first) + XID_SPAN <
		U64FromFullTransactionId(next))
		return InvalidTransactionId;
	return XidFromFullTransactionId(first);
}

static uint64
count_older(Snapshot snapshot)
{
	TransactionId first = first_look();
	uint64 n = 0;

	if (!TransactionIdIsValid(first) ||
		!TransactionIdPrecedes(snapshot->xmin, first))
		return 0;
	for (uint32 i = 0; i < snapshot->xcnt; i++)
	{
		if (TransactionIdPrecedes(snapshot->xip[i], first))
			n++;
	}
	return n;
}

static bool
is_usable(Snapshot snapshot)
{
	return shared != NULL && !RecoveryInProgress() &&
		!IsolationIsSerializable() &&
		snapshot->snapshot_type == SNAPSHOT_MVCC &&
		!snapshot->takenDuringRecovery;
}

bool
pfa_generation_stamp(const PfaSubject *subjects, int nsubjects, PfaStamp *stamp)
{
	Snapshot snapshot;

	Assert(nsubjects <= PFA_STAMP_SUBJECTS);
	memset(stamp, 0, sizeof(*stamp));
	if (!ActiveSnapshotSet())
		return false;
	snapshot = GetActiveSnapshot();
	if (!is_usable(snapshot))
		return false;

	stamp->older = count_older(snapshot);
	if (!shown_generation(&everything, snapshot, &stamp->everything))
		return false;
	for (int i = 0; i < nsubjects; i++)
	{
		if (pfa_generation_noted(&subjects[i]) ||
			!shown_generation(&subjects[i], snapshot, &stamp->generations[i]))
			return false;
	}
	return true;
}

bool
pfa_stamp_equal(const PfaStamp *a, const PfaStamp *b)
{
	return memcmp(a, b, sizeof(PfaStamp)) == 0;
}

uint64
pfa_generation_now(const PfaSubject *subject)
{
	Slot *slot = slot_of(subject);
	uint64 generation;

	SpinLockAcquire(&slot->mutex);
	generation = slot->generation;
	SpinLockRelease(&slot->mutex);
	return generation;
}
