package android.content;

import android.net.Uri;
import android.os.Parcelable;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** Fake. */
public class Intent {
    public static final String ACTION_OPEN_DOCUMENT = "android.intent.action.OPEN_DOCUMENT";
    public static final String ACTION_CREATE_DOCUMENT = "android.intent.action.CREATE_DOCUMENT";
    public static final String ACTION_SEND = "android.intent.action.SEND";
    public static final String CATEGORY_OPENABLE = "android.intent.category.OPENABLE";
    public static final String EXTRA_STREAM = "android.intent.extra.STREAM";
    public static final String EXTRA_TITLE = "android.intent.extra.TITLE";
    public static final int FLAG_GRANT_READ_URI_PERMISSION = 1;
    public final String action;
    public final Uri data;
    public final Map<String, Object> extras = new HashMap<>();
    public final Set<String> categories = new HashSet<>();
    public String type;
    public int flags;
    public int request;
    public Intent inside; // a chooser's

    public Intent(String action) {
        this(action, null);
    }

    public Intent(String action, Uri data) {
        this.action = action;
        this.data = data;
    }

    public static Intent createChooser(Intent intent, CharSequence title) {
        Intent chooser = new Intent("android.intent.action.CHOOSER");
        chooser.inside = intent;
        return chooser;
    }

    public Uri getData() {
        return data;
    }

    public Intent addCategory(String category) {
        categories.add(category);
        return this;
    }

    public Intent setType(String type) {
        this.type = type;
        return this;
    }

    public Intent putExtra(String name, String value) {
        extras.put(name, value);
        return this;
    }

    public Intent putExtra(String name, Parcelable value) {
        extras.put(name, value);
        return this;
    }

    public Intent addFlags(int flags) {
        this.flags |= flags;
        return this;
    }
}
