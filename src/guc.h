/*
 * guc.h
 *	  Every setting.  Units, ranges and meaning stand in guc.c's table.
 */
#ifndef PFA_GUC_H
#define PFA_GUC_H

#include "postgres.h"

typedef enum PfaCacheBackendSetting
{
	PFA_CACHE_BACKEND_OFF,
	PFA_CACHE_BACKEND_SHARED_MEMORY,
	PFA_CACHE_BACKEND_REDIS
} PfaCacheBackendSetting;

extern int pfa_guc_cache_backend; /* PfaCacheBackendSetting */
extern int pfa_guc_cache_size;    /* kB */
extern bool pfa_guc_prewarm;
extern char *pfa_guc_redis_key_prefix;
extern char *pfa_guc_redis_password_file;
extern int pfa_guc_redis_timeout; /* ms */
extern char *pfa_guc_redis_url;
extern bool pfa_guc_enabled;
extern bool pfa_guc_write_back;
extern int pfa_guc_max_concurrent_syncs;
extern double pfa_guc_max_delete_fraction;
extern char *pfa_guc_allowed_hosts;
extern int pfa_guc_run_retention;         /* minutes */
extern int pfa_guc_event_retention;       /* minutes */
extern int pfa_guc_view_refresh_interval; /* seconds */
extern int pfa_guc_max_organizations;
extern int pfa_guc_slow_query_threshold; /* milliseconds; -1: none is slow */
extern bool pfa_guc_track_statements;

extern void pfa_guc_define(void);

/*
 * pfa_vanguard.user_id where it is in effect, else NULL.  A value that stayed
 * behind in the session is not: see guc.c.
 */
extern const char *pfa_guc_user_id(void);

#endif /* PFA_GUC_H */
