package android.app;

/** Fake: remembers the last one. */
public class AlertDialog {
    public static CharSequence shown;

    public static class Builder {
        private CharSequence message;

        public Builder(android.content.Context context) {}

        public Builder setTitle(int id) {
            return this;
        }

        public Builder setMessage(CharSequence message) {
            this.message = message;
            return this;
        }

        public AlertDialog show() {
            shown = message;
            return null;
        }
    }
}
