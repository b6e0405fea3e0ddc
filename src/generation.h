/*
 * generation.h
 *	  Which state of an organization a cached answer stands for.
 *
 * The promise.  A call that is answered from the cache returns exactly what it
 * would have read from the tables itself, under the snapshot that its
 * statement has.  That is more than not being stale: two calls of one
 * statement agree, a REPEATABLE READ transaction never sees the future, and
 * nobody can tell by an answer whether it was cached.
 *
 * The means.  What can change is divided into subjects: the records of an
 * organization, a user's drafts in it, and so on.  In shared memory each
 * subject has a generation, a number that grows with every committed change.
 * An answer is kept under the generations of the subjects that it was made
 * from, and is given out only under the same ones.  That generation g is the
 * state that a snapshot S shows is decided by transaction ids, not by the
 * order in which things happened:
 *
 *	- A transaction that has changed a subject enters its xid into the
 *	  subject's list "open" just before it commits, so before any snapshot can
 *	  see it.  After it can be seen by all, the generation grows, and the xid
 *	  moves to the list "recent", in one step.
 *	- So whoever looks finds every change that is visible to anybody either in
 *	  open, or in recent, or pushed out of recent by later ones.  S shows
 *	  generation g if it sees all that are recent and none that is open.
 *
 * Why that is so simple where others need clocks and locks: a slow filler
 * (snapshot old, change committed meanwhile) finds a recent change that its
 * snapshot does not see, and leaves nothing behind.  A reader in the moment
 * between "committed" and "generation grown" finds the change open: if its
 * snapshot sees the change, the reader itself moves it to recent; if not, the
 * old generation is what it must see.  That is also how COMMIT PREPARED comes
 * to be known, by whatever session and whatever way it was run: PREPARE leaves
 * the xid open, and the first snapshot that sees it closes it.  A transaction
 * that rolls back leaves the generation alone.
 *
 * What is not known makes an answer uncacheable, never wrong:
 *
 *	- Recent holds few xids.  Of those pushed out is known which xids had not
 *	  been assigned when they could be seen (next).  A snapshot that sees any
 *	  xid from there on, or has none running below it, is younger than they.
 *	- Open holds few xids.  One that finds no place lets the generation grow at
 *	  once and closes the subject until no running transaction is that old.
 *	- Shared memory is lost in a crash and at a restart, prepared transactions
 *	  are not.  Which subjects they have changed is forgotten, so each answer is
 *	  also kept under the number of transactions in its snapshot that are older
 *	  than this server's first look at the cache: it shrinks when one ends.
 *	- Subjects share slots by a hash, so that none has to be entered, looked up
 *	  or removed: a collision costs answers that were still good.
 *
 * A transaction that has itself changed a subject reads past the cache, as do
 * SERIALIZABLE ones, whose reads the server has to know, and standbys.
 *
 * Without shared_preload_libraries there is no shared memory, and no cache.
 */
#ifndef PFA_GENERATION_H
#define PFA_GENERATION_H

#include "postgres.h"
#include "utils/snapshot.h"

#define PFA_SUBJECT_ORGANIZATION_LEN 64 /* bytes, with the NUL */
#define PFA_SUBJECT_USER_LEN         256

typedef enum PfaSubjectKind
{
	PFA_SUBJECT_EVERYTHING, /* all others: they need not be named */
	PFA_SUBJECT_RECORDS,    /* mirror and committed changes of an
								 * organization, and when it was synced */
	PFA_SUBJECT_DRAFTS,     /* of a user in an organization */
	PFA_SUBJECT_CONFIG,     /* settings and mapping of an organization */
	PFA_SUBJECT_USER        /* what a user may do, anywhere */
} PfaSubjectKind;

typedef struct PfaSubject
{
	PfaSubjectKind kind;
	char organization[PFA_SUBJECT_ORGANIZATION_LEN];
	char user[PFA_SUBJECT_USER_LEN];
} PfaSubject;

/*
 * False where a name is too long to be one of ours; then nothing can be cached
 * for it.  NULL: the kind has none.
 */
extern bool pfa_subject_set(PfaSubject *subject, PfaSubjectKind kind,
							const char *organization, const char *user);

/* ---- writers ---- */

/*
 * This transaction changes the subject.  Names need no terminating NUL.  It
 * raises no error, and costs a comparison where the last note was the same.
 */
extern void
pfa_generation_note(PfaSubjectKind kind, const char *organization,
					int organization_len, const char *user, int user_len);
extern void pfa_generation_note_everything(void);
/* Whether this transaction has changed it. */
extern bool pfa_generation_noted(const PfaSubject *subject);

/*
 * Called after the changes of a transaction can be seen by all, with what they
 * were: by its own process while it commits, where nothing may raise an error;
 * or, after COMMIT PREPARED, by the first who finds out.  Set by cache/, which
 * stands above.
 */
extern void (*pfa_generation_changed_hook)(const PfaSubject *subjects,
										   int nsubjects);

/* ---- readers ---- */

#define PFA_STAMP_SUBJECTS 2

/* Two answers of one key are of the same state if their stamps are equal. */
typedef struct PfaStamp
{
	uint64 everything;
	uint64 generations[PFA_STAMP_SUBJECTS]; /* 0: none */
	uint64 older; /* running transactions older than the cache */
} PfaStamp;

/*
 * Fill the stamp with the state of the subjects that the active snapshot
 * shows.  False where it cannot be told, or where the cache is not to be used:
 * see above.
 */
extern bool pfa_generation_stamp(const PfaSubject *subjects, int nsubjects,
								 PfaStamp *stamp);
extern bool pfa_stamp_equal(const PfaStamp *a, const PfaStamp *b);

/*
 * The subject's generation at this moment, for what is kept outside of the
 * server: it only grows.
 */
extern uint64 pfa_generation_now(const PfaSubject *subject);

/* ---- for shmem.c and pfa_vanguard.c ---- */
extern Size pfa_generation_shmem_size(void);
extern void pfa_generation_shmem_startup(void);
extern void pfa_generation_init(void); /* transaction callbacks */

#endif /* PFA_GENERATION_H */
