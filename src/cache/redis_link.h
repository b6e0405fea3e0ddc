/*
 * redis_link.h
 *	  This process's connection to Redis, and when not to use it.
 *
 * One connection a process, made when first needed, and kept.  Connecting, and
 * each exchange, takes at most pfa_vanguard.redis_timeout; waits heed
 * interrupts, unless they are held off.  Nothing raises an error of its own.
 *
 * After a failure no process of the cluster asks again for a while, which grows
 * from half a second to ten (the circuit is open); then one tries.  That Redis
 * does not answer is told once, when it begins, and once when it has ended.
 */
#ifndef PFA_REDIS_LINK_H
#define PFA_REDIS_LINK_H

#include "postgres.h"

#include <hiredis/hiredis.h>

/* Whether Redis is configured at all. */
extern bool pfa_redis_configured(void);

/*
 * Ready to send: connected, and nothing left over from an exchange that an
 * error has cut short.  False where Redis is not to be asked.
 */
extern bool pfa_redis_begin(void);
extern void
pfa_redis_send(int argc, const char *const *argv, const size_t *lens);
/* Read one reply to each command sent; false if that failed. */
extern bool pfa_redis_converse(void);
/* The i-th reply; valid until the next begin. */
extern const redisReply *pfa_redis_reply(int i);

#define PFA_REDIS_MAX_COMMANDS 40

/* What Redis last did, for all processes. */
extern bool pfa_redis_is_up(void);

/* Look up the name in redis_url, where there is one: only a scheduler does. */
extern void pfa_redis_resolve(void);

extern Size pfa_redis_link_shmem_size(void);
extern void pfa_redis_link_shmem_startup(void);

#endif /* PFA_REDIS_LINK_H */
