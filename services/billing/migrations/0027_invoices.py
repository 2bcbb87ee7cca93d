"""Invoices of CREDIT_POSTPAY, what they are made from, and how they are paid."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE billing.postpay_spans (
        mandate_no INTEGER NOT NULL,
        from_seq BIGINT NOT NULL,
        to_seq BIGINT,
        opened_at TIMESTAMP WITH TIME ZONE NOT NULL,
        closed_at TIMESTAMP WITH TIME ZONE,
        closed_through DATE,
        CONSTRAINT pk_postpay_spans PRIMARY KEY (mandate_no, from_seq),
        CONSTRAINT ck_postpay_spans_closed CHECK ((to_seq IS NULL) = (closed_at IS NULL))
    )
    """,
    "CREATE UNIQUE INDEX uq_postpay_spans_open ON billing.postpay_spans (mandate_no) WHERE to_seq IS NULL",
    """
    CREATE TABLE billing.invoice_series (
        year INTEGER NOT NULL,
        last BIGINT NOT NULL,
        CONSTRAINT pk_invoice_series PRIMARY KEY (year)
    )
    """,
    """
    CREATE TABLE billing.invoices (
        id UUID NOT NULL,
        mandate_no INTEGER NOT NULL,
        series_year INTEGER NOT NULL,
        series_no BIGINT NOT NULL,
        number TEXT NOT NULL,
        period_start DATE NOT NULL,
        period_end DATE NOT NULL,
        up_to_seq BIGINT NOT NULL,
        through_day DATE NOT NULL,
        next_from_seq BIGINT NOT NULL,
        cause TEXT NOT NULL,
        issued_at TIMESTAMP WITH TIME ZONE NOT NULL,
        due_at TIMESTAMP WITH TIME ZONE NOT NULL,
        reference TEXT NOT NULL,
        language TEXT NOT NULL,
        seller JSONB NOT NULL,
        recipient JSONB NOT NULL,
        vat_country TEXT,
        vat_percent NUMERIC NOT NULL,
        net BIGINT NOT NULL,
        vat BIGINT NOT NULL,
        total BIGINT NOT NULL,
        carry_before BIGINT NOT NULL,
        carry_after BIGINT NOT NULL,
        CONSTRAINT pk_invoices PRIMARY KEY (id),
        CONSTRAINT uq_invoices_number UNIQUE (number),
        CONSTRAINT uq_invoices_series_year_series_no UNIQUE (series_year, series_no),
        CONSTRAINT uq_invoices_mandate_no_up_to_seq_through_day UNIQUE (mandate_no, up_to_seq, through_day),
        CONSTRAINT ck_invoices_cause CHECK (cause IN ('MONTH', 'SWITCH')),
        CONSTRAINT ck_invoices_total CHECK (net + vat = total AND total >= 0)
    )
    """,
    "CREATE INDEX ix_invoices_mandate_no_issued_at ON billing.invoices (mandate_no, issued_at)",
    """
    CREATE TABLE billing.invoice_lines (
        invoice_id UUID NOT NULL,
        position INTEGER NOT NULL,
        kind TEXT NOT NULL,
        first_day DATE NOT NULL,
        last_day DATE NOT NULL,
        provider TEXT,
        model TEXT,
        feature_code TEXT,
        feature_instance_id TEXT,
        count BIGINT NOT NULL,
        cost BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        net BIGINT NOT NULL,
        CONSTRAINT pk_invoice_lines PRIMARY KEY (invoice_id, position),
        CONSTRAINT fk_invoice_lines_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id),
        CONSTRAINT ck_invoice_lines_kind
            CHECK (kind IN ('USAGE', 'STORAGE', 'CORRECTION', 'BUDGET', 'PROMOTION', 'CREDIT'))
    )
    """,
    """
    CREATE TABLE billing.invoice_payments (
        mandate_no INTEGER NOT NULL,
        event_id UUID NOT NULL,
        invoice_id UUID NOT NULL,
        amount BIGINT NOT NULL,
        paid_at TIMESTAMP WITH TIME ZONE NOT NULL,
        recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_invoice_payments PRIMARY KEY (mandate_no, event_id),
        CONSTRAINT fk_invoice_payments_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id)
    )
    """,
    "CREATE INDEX ix_invoice_payments_invoice_id ON billing.invoice_payments (invoice_id)",
    """
    CREATE TABLE billing.invoice_documents (
        invoice_id UUID NOT NULL,
        language TEXT NOT NULL,
        content BYTEA NOT NULL,
        made_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_invoice_documents PRIMARY KEY (invoice_id, language),
        CONSTRAINT fk_invoice_documents_invoice_id_invoices FOREIGN KEY (invoice_id) REFERENCES billing.invoices (id)
    )
    """,
    """
    CREATE TABLE billing.vat_rates (
        country TEXT COLLATE "C" NOT NULL,
        valid_from DATE NOT NULL,
        percent NUMERIC NOT NULL,
        CONSTRAINT pk_vat_rates PRIMARY KEY (country, valid_from),
        CONSTRAINT ck_vat_rates_percent CHECK (percent >= 0 AND percent < 100)
    )
    """,
    # Liechtenstein has the VAT of Switzerland.
    """
    INSERT INTO billing.vat_rates (country, valid_from, percent)
    VALUES ('CH', '2018-01-01', 7.7), ('CH', '2024-01-01', 8.1), ('LI', '2018-01-01', 7.7), ('LI', '2024-01-01', 8.1)
    """,
    # Who is in CREDIT_POSTPAY already has had no invoice yet: all rows since the switch are to be asked for.
    """
    INSERT INTO billing.postpay_spans (mandate_no, from_seq, opened_at)
    SELECT m.no, coalesce((SELECT max(t.seq) FROM billing.accounts a
                             JOIN billing.transactions t ON t.mandate_no = a.mandate_no AND t.posted_account_no = a.no
                            WHERE a.mandate_no = m.no AND a.type = 'MANDATE' AND t.recorded_at < s.at), 0),
           coalesce(s.at, m.created_at)
      FROM billing.mandates m
      LEFT JOIN LATERAL (SELECT l.at FROM billing.audit_log l WHERE l.mandate_no = m.no AND l.action = 'model'
                          ORDER BY l.id DESC LIMIT 1) s ON true
     WHERE m.billing_model = 'CREDIT_POSTPAY'
    """,
    """
    GRANT SELECT, INSERT ON billing.invoices, billing.invoice_lines, billing.invoice_payments,
        billing.invoice_documents, billing.vat_rates TO billing_app
    """,
    "GRANT SELECT, INSERT, UPDATE ON billing.postpay_spans, billing.invoice_series TO billing_app",
)


def upgrade() -> None:
    """Makes the tables; who is in CREDIT_POSTPAY gets an invoice of all since then."""
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Takes them away again, with the invoices."""
    op.execute(
        "DROP TABLE billing.invoice_documents, billing.invoice_payments, billing.invoice_lines, billing.invoices,"
        " billing.invoice_series, billing.postpay_spans, billing.vat_rates"
    )
