/*
 * prewarm.h
 *	  Load records and modifications into shared buffers.
 */
#ifndef PFA_PREWARM_H
#define PFA_PREWARM_H

#include "postgres.h"

typedef void (*PfaPrewarmed)(const char *relation, int64 blocks, void *arg);

/*
 * Load the mirror, the modifications and their indexes by pg_prewarm, indexes
 * first, as far as three quarters of shared buffers go.  done (NULL: nobody) is
 * told of each.  An error where pg_prewarm is not installed.
 */
extern void pfa_prewarm_relations(PfaPrewarmed done, void *arg);

#endif /* PFA_PREWARM_H */
