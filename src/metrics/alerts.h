/*
 * alerts.h
 *	  The conditions of monitoring/rules for those without
 *	  Prometheus: judged by the scheduler, shown by pfa_alerts.
 */
#ifndef PFA_ALERTS_H
#define PFA_ALERTS_H

#include "postgres.h"
#include "datatype/timestamp.h"

#include "metrics/gauges.h"

#define PFA_METRICS_ALERTS 128
#define PFA_ALERT_NAME_LEN 32

typedef struct PfaAlertEntry
{
	char name[PFA_ALERT_NAME_LEN];               /* "": not in use */
	char organization_id[PFA_METRICS_LABEL_LEN]; /* "": none */
	bool critical;                               /* else a warning */
	bool firing;       /* else its condition holds, not for long */
	TimestampTz since; /* that the condition holds */
	double value;
	double threshold;
} PfaAlertEntry;

typedef struct PfaAlertChange
{
	PfaAlertEntry alert;
	bool resolved; /* else it began to fire */
} PfaAlertChange;

/*
 * Look at all conditions.  Returns what began to fire and what ended, palloc'd.
 * Keeps in this process what the counters were up to an hour ago; call it every
 * few seconds from one process a database.
 */
extern PfaAlertChange *
pfa_alerts_judge(const PfaOrganizationFacts *facts, int nfacts, int *nchanges);

/* What holds now, palloc'd: firing ones first. */
extern PfaAlertEntry *pfa_alerts_list(int *n);

/* What an alert means, for people. */
extern const char *pfa_alert_summary(const char *name);

#endif /* PFA_ALERTS_H */
