/*
 * activity.h
 *	  What a process tells of itself at its transactions.
 *
 * A session that has called pfa_sync is in one statement all the time: it is
 * active, began when the statement did, and has pending statistics (those of
 * the call itself) that must not be sent under way: the call would write to
 * freed memory.  So these do nothing there.
 */
#ifndef PFA_ACTIVITY_H
#define PFA_ACTIVITY_H

/* Before a transaction begins. */
extern void pfa_activity_begin(void);
/* After it has ended. */
extern void pfa_activity_end(void);

#endif /* PFA_ACTIVITY_H */
