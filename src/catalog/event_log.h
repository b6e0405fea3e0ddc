/*
 * event_log.h
 *	  pfa_event_log: the scheduler's side.  See pfa_event_write in
 *	  pfa_catalog.h for events that belong to a transaction.
 */
#ifndef PFA_EVENT_LOG_H
#define PFA_EVENT_LOG_H

#include "events/ring.h"

/* Insert an event that came through the ring; returns its event_id. */
extern int64 pfa_event_insert(const PfaEvent *event);
/* It has happened so many times more; false where the row is gone. */
extern bool pfa_event_repeat(int64 event_id, int64 repeats);
/* Say in the server log what could not be kept. */
extern void pfa_event_line(const PfaEvent *event);

#endif /* PFA_EVENT_LOG_H */
