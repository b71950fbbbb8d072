package android.content;

import android.content.res.AssetManager;
import android.content.res.Resources;
import java.io.File;

/** Fake: texts are the names of their resources. */
public abstract class Context {
    public static final String CAMERA_SERVICE = "camera";

    public abstract Object getSystemService(String name);

    public abstract Context getApplicationContext();

    public abstract ContentResolver getContentResolver();

    public abstract AssetManager getAssets();

    public abstract Resources getResources();

    public abstract String getPackageName();

    public abstract File getCacheDir();

    public abstract int checkSelfPermission(String permission);

    public abstract void startActivity(Intent intent);

    public final String getString(int id) {
        return Resources.name(id);
    }

    public final String getString(int id, Object... values) {
        return Resources.name(id) + java.util.Arrays.toString(values);
    }
}
